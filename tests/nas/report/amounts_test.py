"""Numbers are written with the digits and in the unit that fit."""

import numpy as np

from nas.report.amounts import format_amount, format_percent
from nas.report.charts import pareto_front, plain


def test_amounts_have_three_digits_and_the_unit_that_fits():
  amounts = [format_amount(v) for v in (0, 7, 12_345, 999_400, 999_900, 1.25e9)]
  assert amounts == ['0', '7', '12.3k', '999k', '1M', '1.25G']
  sizes = [format_amount(v, 'state_bytes') for v in (1000, 124_240, 2**20 - 1)]
  assert sizes == ['1000 B', '121 KiB', '1 MiB']
  times = [format_amount(v, 'latency_ns') for v in (920, 48_300_000, 1.2e9)]
  assert times == ['0.92 µs', '48.3 ms', '1.2 s']


def test_only_what_is_certain_is_a_hundred_percent():
  shares = (0, 0.004, 0.5, 0.994, 0.9999, 1 - 2**-23, 1, 1 + 2**-23)
  said = ['0 %', '<1 %', '50 %', '99 %', '99 %', '100 %', '100 %', '100 %']
  assert list(map(format_percent, shares)) == said


def test_data_of_charts_is_finite_or_missing():
  values = [1, 2.5, np.float32(0.25), np.int64(7), float('nan'), -np.inf, None, 'a']
  assert plain(values) == [1, 2.5, 0.25, 7, None, None, None, 'a']
  assert plain(np.array([0.123456789, np.nan])) == [0.123457, None]


def test_a_front_is_what_nothing_beats():
  rng = np.random.default_rng(0)
  cost, accuracy = rng.integers(0, 40, 300), np.round(rng.random(300), 2)
  accuracy[::7] = np.nan
  points = {(c, a) for c, a in zip(cost, accuracy, strict=True) if np.isfinite(a)}
  wanted = [
    (c, a) for c, a in points if not any((d, b) != (c, a) and d <= c and b >= a for d, b in points)
  ]
  front = pareto_front(cost, accuracy)
  assert [(cost[i], accuracy[i]) for i in front] == sorted(wanted)
  assert pareto_front([], []).tolist() == []
