"""Numbers and amounts as a reader sees them."""

import math
from numbers import Real

COUNTS = ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k'), (1, ''))
# Sizes and names of units, largest first, by the name of a cost or metric.
UNITS = {
  'latency_ns': ((1e9, ' s'), (1e6, ' ms'), (1e3, ' µs')),
  'state_bytes': ((2**30, ' GiB'), (2**20, ' MiB'), (2**10, ' KiB'), (1, ' B')),
  'secs': ((3600, ' h'), (60, ' min'), (1, ' s')),
}


def is_finite(value) -> bool:
  return isinstance(value, Real) and math.isfinite(value)


def format_number(value, form: str = '.4f') -> str:
  """Formats an accuracy, a reward or a rate; a missing one is a dash."""
  return f'{value:{form}}'.replace('-', '−') if is_finite(value) else '–'


def format_amount(value, name: str = '') -> str:
  """Formats three digits in the unit that fits: 1.25G, 480M, 183 KiB, 48.3 ms."""
  if not is_finite(value):
    return '–'
  rounded, units = float(f'{value:.3g}'), UNITS.get(name, COUNTS)  # 999,999 is 1M, not 1000k
  size, unit = next((unit for unit in units if abs(rounded) >= unit[0]), units[-1])
  return f'{float(f"{value / size:.3g}"):g}{unit}'


def format_share(value: float, most: float | None, name: str, cost: str) -> str:
  """Formats a cost as a share of what it may be: 1.14 × target 300M."""
  return f'{value / most:.2f} × {name} {format_amount(most, cost)}' if most else ''


def format_percent(share: float | None) -> str:
  if share is None:
    return '–'
  if 0 < share < 0.01:
    return '<1 %'
  # Rounds down at the top: only what is certain, as far as float32 tells, is 100 %.
  return f'{math.floor(share * 100 + 1e-4) if share > 0.99 else round(share * 100)} %'
