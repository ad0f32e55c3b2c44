"""Axes say where their ticks are."""

import re

import numpy as np
import pytest

from nas.report.charts import WholeAxis, make_axis, make_log_axis
from nas.report.html import BYTES, COUNTS, NANOSECS, PLAIN

RANGES = (
  (1.373, 1.384),
  (0.0, 1.0),
  (-0.2, 0.15),
  (0.998e9, 1.016e9),
  (3, 7),
  (0, 1e7),
)
RANGES += ((180_000, 190_000), (1000, 1e6), (7.9e8, 1.01e9), (2**20 - 9, 2**20 + 9))


@pytest.mark.parametrize('units', [PLAIN, COUNTS, BYTES, NANOSECS])
@pytest.mark.parametrize('ends', RANGES)
def test_an_axis_says_where_its_ticks_are(ends, units):
  ticks = make_axis([np.array(ends)], 0, 100, units=units).ticks()
  assert 4 <= len(ticks) <= 9
  sizes = {name: size for size, name in units}
  places, said = zip(*ticks, strict=True)
  parts = [re.fullmatch(r'(−?)(\d+)(\.\d+)?(.*)', text).groups('') for text in said]
  assert len({name for *_, name in parts}) == 1
  assert len({len(rest) for _, _, rest, _ in parts}) == 1
  for place, (minus, whole, rest, name) in zip(places, parts, strict=True):
    value = float(f'{"-" if minus else ""}{whole}{rest}') * sizes[name]
    assert value == pytest.approx(place, rel=1e-12, abs=1e-12)
  assert np.ptp(np.diff(places)) < 1e-6 * np.diff(places)[0]


@pytest.mark.parametrize('units', [COUNTS, NANOSECS])
@pytest.mark.parametrize('low', [1_000, 3.3e4, 9.99e6, 1.1e9])
@pytest.mark.parametrize('ratio', [1.02, 1.3, 2, 9, 80, 5e4])
def test_a_log_axis_says_where_its_ticks_are(units, low, ratio):
  axis = make_log_axis([np.array([low, low * ratio])], 100, 900, units=units)
  ticks = axis.ticks()
  assert 4 <= len(ticks) <= 9
  assert len({said for _, said in ticks}) == len(ticks)
  sizes = {name: size for size, name in units}
  for value, said in ticks:
    number, name = re.fullmatch(r'([\d.]+)(.*)', said).groups()
    assert float(number) * sizes[name] == pytest.approx(value, rel=1e-9)
    assert 100 <= axis(value) <= 900
  # Equal ratios are equally far apart.
  places = axis(low * ratio ** np.linspace(0, 1, 5))
  assert np.diff(places) == pytest.approx(np.full(4, np.ptp(places) / 4))
  assert places[0] > 100
  assert places[-1] < 900


@pytest.mark.parametrize('count', [1, 2, 4, 11, 13, 99, 5000, 123_456])
def test_numbers_of_trials_are_whole(count):
  ticks = WholeAxis(-0.5, max(4, count) - 0.5, 0, 900).ticks()
  assert len(ticks) >= 3
  for value, said in ticks:
    assert int(said.replace(',', '')) == value
