"""What a table of trials says, and what in it is noise.

A table has a row for each candidate: a mapping with its `name`, `samples` (a value for each
network) and `repeats` (for each network, a value for each seed). None stands for a value
that is not known.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95  # of confidence


class Noise(NamedTuple):
  """How far means of equal candidates lie apart by chance.

  Attributes:
    over: 'samples' or 'repeats', whichever the spread is of; None if there is only one of
      each, so that nothing is known.
    sd: standard deviation of one of them, without what its candidate and its number or
      seed account for. That of a difference of two is √2 times as large.
    freedom: degrees of freedom of sd.
    quantile: of the studentized range of all means, at LEVEL.
    repeats_sd: standard deviation of repeats of the same network, without what their seed
      does to all networks; None without repeats.
  """

  over: str | None
  sd: float | None
  freedom: int
  quantile: float | None
  repeats_sd: float | None


def find_noise(rows: Sequence[Mapping]) -> Noise:
  """Measures the noise of a table: over networks if it has several, else over seeds."""
  repeats_sd, repeats_freedom = _pool([values for row in rows for values in row['repeats']])
  over, (sd, freedom) = 'samples', _pool([row['samples'] for row in rows])
  if not freedom:
    over, sd, freedom = 'repeats', repeats_sd, repeats_freedom
  if not freedom:
    return Noise(None, None, 0, None, None)
  return Noise(over, sd, freedom, find_quantile(len(rows), freedom), repeats_sd)


def _pool(rows: Sequence[Sequence[float | None]]) -> tuple[float | None, int]:
  """Standard deviation and degrees of freedom of what rows and columns do not account for.

  Least squares fits a number for each row and each column, because the means of a table
  with missing values would not do.
  """
  table = np.array(rows, float, ndmin=2)
  row, column = known = np.nonzero(~np.isnan(table))
  count, width = table.shape
  effects = np.concatenate([np.eye(count)[row], np.eye(width)[column]], axis=1)
  fit, _, rank, _ = np.linalg.lstsq(effects, table[known])
  rest, freedom = table[known] - effects @ fit, len(row) - int(rank)
  return (math.sqrt(rest @ rest / freedom), freedom) if freedom else (None, 0)


@functools.cache
def find_quantile(groups: int, freedom: int) -> float:
  """The quantile at LEVEL of the studentized range of `groups` means."""
  # Imported late, for it takes a second and few commands compare candidates.
  from scipy import stats

  return float(stats.studentized_range.ppf(LEVEL, groups, freedom))


def compare(best: Mapping, other: Mapping, noise: Noise) -> dict:
  """What the best gains on another, and whether that is noise (Tukey's test, in pairs).

  The gain is over the networks and seeds of which both have a value. So where one of them
  lost a trial it is not the difference of their means. It is None if they share none.
  """
  ours, theirs = (np.array(row['repeats'], float) for row in (best, other))
  known = [seeds[~np.isnan(seeds)] for seeds in np.atleast_2d(ours - theirs)]
  if noise.over == 'repeats':
    gains = np.concatenate(known)
  else:
    gains = [np.mean(seeds) for seeds in known if len(seeds)]
  gain = float(np.mean(gains)) if len(gains) else None
  margin = None
  if noise.over and len(gains):
    margin = noise.quantile * noise.sd / math.sqrt(len(gains))
  undecided = margin is None or abs(gain) <= margin
  return {
    'with': other['name'],
    'gain': gain,
    'margin': margin,
    'undecided': undecided,
  }


def measure_agreement(before: Sequence[str], after: Sequence[str]) -> float | None:
  """Kendall's tau of two orders of the same names; None of fewer than two names."""
  if len(before) < 2:
    return None
  from scipy import stats

  places = {name: place for place, name in enumerate(after)}
  tau = stats.kendalltau(range(len(before)), [places[name] for name in before]).statistic
  return round(float(tau), 12)  # equal orders have exactly 1


def average(values: Iterable[float | None]) -> float | None:
  """The mean of the values that are known; None if none is."""
  known = [value for value in values if value is not None]
  return float(np.mean(known)) if known else None
