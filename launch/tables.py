"""Text for people: tables whose columns line up, and numbers of three digits."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]], sides: str, gap: str = '  ') -> list[str]:
  """Lines of a table.

  Args:
    rows: the cells of each; the last may be left out.
    sides: of each column: '<' for words, '>' for numbers.
    gap: between columns.
  """
  columns = range(max(map(len, rows)))
  widths = [max(len(row[i]) for row in rows if i < len(row)) for i in columns]
  return [
    gap.join(
      f'{cell:{side}{width}}' for cell, width, side in zip(row, widths, sides, strict=False)
    ).rstrip()
    for row in rows
  ]


def say_billions(count: float) -> str:
  """Billions of a count: three decimals, or three digits where these would be lost."""
  value = count / 1e9
  if not value or value >= 0.01:
    return f'{value:,.3f}'
  text = f'{value:.12f}'
  first = next((i for i, letter in enumerate(text) if letter in '123456789'), len(text))
  return text[: first + 3].rstrip('0') or '0'
