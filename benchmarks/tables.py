"""Rows of a benchmark, printed for a person."""

import math
from collections.abc import Mapping, Sequence


def format_number(value: float, digits: int = 3) -> float:
  """Rounds to so many significant digits."""
  return float(f'{value:.{digits}g}') if math.isfinite(value) else value


def print_table(rows: Sequence[Mapping]):
  """In Markdown, a column for each key of any row; nothing if there are no rows."""
  columns = list(dict.fromkeys(key for row in rows for key in row))
  if not columns:
    return
  print('\n| ' + ' | '.join(name.replace('_', ' ') for name in columns) + ' |')
  print('| --- ' * len(columns) + '|')
  for row in rows:
    print('| ' + ' | '.join(_describe(row.get(name)) for name in columns) + ' |')
  print(flush=True)


def _describe(value) -> str:
  if isinstance(value, float):
    return f'{value:,.3g}' if abs(value) < 1000 else f'{value:,.0f}'
  return '' if value is None else str(value).replace('|', '/')
