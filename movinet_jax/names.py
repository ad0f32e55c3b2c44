"""Looking things up by a name that a person typed."""

import difflib
from collections.abc import Iterable, Mapping


def find(table: Mapping, name: str, kind: str):
  """Returns `table[name]`.

  Raises:
    ValueError: no such name; says what there is and what was probably meant.
  """
  if name in table:
    return table[name]
  raise ValueError(f'unknown {kind} {name!r}{suggest(name, table)}')


def suggest(name: str, choices: Iterable[str]) -> str:
  """Ends an error message: the nearest choice, and all of them."""
  choices = sorted(map(str, choices))
  near = difflib.get_close_matches(str(name), choices, n=1)
  hint = f'; did you mean {near[0]!r}?' if near else ''
  return f'{hint} (choices: {", ".join(choices)})'
