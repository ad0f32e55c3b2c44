"""The slope of accuracy over cost is found where samples tell it, and only there."""

import dataclasses

import numpy as np
import pytest

from nas.oneshot.samples import Samples
from nas.slope import estimate_relative_slope, estimate_slope

TARGET_MACS = 300_000_000


def plant_samples(slope, n=4000, noise=0.05, center=1.0, drift=0.0) -> Samples:
  """Samples whose accuracy has a slope; the weights improve while the cost falls."""
  rng = np.random.default_rng(4)
  steps = np.arange(n)
  ratio = center + rng.normal(0, 0.1, n) - drift * steps / n
  accuracy = 0.5 + slope * (ratio - 1) + 0.6 * drift * steps / n
  accuracy += rng.normal(0, noise, n)
  cost = (ratio * TARGET_MACS).astype(np.int64)
  return Samples(steps, np.zeros((n, 0), np.int8), accuracy, accuracy, cost)


@pytest.mark.parametrize('slope', [0.0, 0.3, 0.9])
@pytest.mark.parametrize('drift', [0.0, 0.3])
def test_planted_slope_is_found(slope, drift):
  samples = plant_samples(slope, drift=drift)
  assert estimate_slope(samples, TARGET_MACS) == pytest.approx(slope, abs=0.05)


def test_drift_alone_would_mislead_a_plain_fit():
  samples = plant_samples(0.3, drift=0.3)
  ratio = samples.cost / TARGET_MACS
  assert abs(np.polyfit(ratio, samples.accuracy, 1)[0] - 0.3) > 0.2


def test_slope_of_a_search_that_settled_beside_its_target():
  samples = plant_samples(0.6, center=1.3)
  assert estimate_slope(samples, TARGET_MACS) == pytest.approx(0.6, abs=0.1)


def test_no_slope_where_samples_do_not_tell():
  assert estimate_slope(None, TARGET_MACS) is None
  assert estimate_slope(plant_samples(0.3, n=60), TARGET_MACS) is None
  assert estimate_slope(plant_samples(0.3, center=3.0), TARGET_MACS) is None
  noisy = plant_samples(0.3, n=400, noise=0.5)
  assert estimate_slope(noisy, TARGET_MACS) is None
  same = dataclasses.replace(noisy, cost=np.full(400, TARGET_MACS))
  assert estimate_slope(same, TARGET_MACS) is None


def test_the_relative_slope_is_that_of_the_logarithm():
  samples = plant_samples(0.3)
  assert estimate_relative_slope(samples, TARGET_MACS) == pytest.approx(0.6, abs=0.1)
  silent = dataclasses.replace(samples, accuracy=0 * samples.accuracy)
  assert estimate_relative_slope(silent, TARGET_MACS) is None
  assert estimate_relative_slope(None, TARGET_MACS) is None
