"""How fast accuracy rises with cost: what β has to hold against."""

import dataclasses
import math

import numpy as np

from nas.oneshot.samples import Samples


def estimate_slope(samples: Samples | None, target: float) -> float | None:
  """Estimates the accuracy gained per unit of cost / target near the target.

  This is a least-squares fit over the second half of the search, because the weights of the
  first half are still poor. Weights improve further while the cost drifts, which is no effect of
  cost: so only samples of about the same step are compared. Three neighborhoods of the target
  are tried, and the nearest one with enough samples counts.

  Returns:
    None where the samples do not tell: fewer than 50, or a standard error above 0.05 and above a
    quarter of the slope.
  """
  if samples is None or not len(samples):
    return None
  steps, ratio = np.asarray(samples.steps), np.asarray(samples.cost, float) / target
  accuracy = np.asarray(samples.accuracy, float)
  late = (steps >= (steps.min() + steps.max()) / 2) & np.isfinite(accuracy)
  for distance in (0.1, 0.25, 0.5):
    near = np.flatnonzero(late & (np.abs(ratio - 1) <= distance))
    fit = _fit_slope(steps[near], ratio[near], accuracy[near])
    if fit and fit[1] <= max(0.05, abs(fit[0]) / 4):
      return fit[0]
  return None


def estimate_relative_slope(samples: Samples | None, target: float) -> float | None:
  """As `estimate_slope`, but of the accuracy over its mean in the second half of the search.

  That is the slope of the logarithm of accuracy, which single batches without a correct answer
  do not have.
  """
  if samples is None or not len(samples):
    return None
  steps = np.asarray(samples.steps)
  late = np.asarray(samples.accuracy, float)[steps >= (steps.min() + steps.max()) / 2]
  mean = np.nanmean(late)
  if not mean > 0:
    return None
  return estimate_slope(dataclasses.replace(samples, accuracy=samples.accuracy / mean), target)


def _fit_slope(steps, x, y) -> tuple[float, float] | None:
  """Returns the slope of y over x and its standard error, with an intercept for each era."""
  if len(x) < 50:
    return None
  eras = np.array_split(np.argsort(steps, kind='stable'), min(20, len(x) // 10))
  x = np.concatenate([x[era] - x[era].mean() for era in eras])
  y = np.concatenate([y[era] - y[era].mean() for era in eras])
  spread = float(x @ x)
  if spread < 1e-9 * len(x):
    return None
  slope = float(x @ y) / spread
  rest = y - slope * x
  return slope, math.sqrt(float(rest @ rest) / (len(x) - len(eras) - 1) / spread)
