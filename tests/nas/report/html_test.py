"""Numbers are written with the digits and in the unit that fit."""

from nas.report.html import BYTES, NANOSECS, format_amount, format_percent


def test_amounts_have_three_digits_and_the_unit_that_fits():
  amounts = [format_amount(v) for v in (0, 7, 12_345, 999_400, 999_900, 1.25e9)]
  assert amounts == ['0', '7', '12.3k', '999k', '1M', '1.25G']
  sizes = [format_amount(v, BYTES) for v in (1000, 124_240, 2**20 - 1)]
  assert sizes == ['1000 B', '121 KiB', '1 MiB']
  times = [format_amount(v, NANOSECS) for v in (920, 48_300_000, 1.2e9)]
  assert times == ['0.92 µs', '48.3 ms', '1.2 s']


def test_only_what_is_certain_is_a_hundred_percent():
  shares = (0, 0.004, 0.5, 0.994, 0.9999, 1 - 2**-23, 1, 1 + 2**-23)
  said = ['0 %', '<1 %', '50 %', '99 %', '99 %', '100 %', '100 %', '100 %']
  assert list(map(format_percent, shares)) == said
