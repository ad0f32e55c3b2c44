"""Looking things up by a name that a person typed."""

import difflib
from collections.abc import Iterable, Mapping

_SHOWN = 12  # of the names there are; a label map has hundreds


def find(table: Mapping, name: str, kind: str):
  """Returns `table[name]`.

  Raises:
    ValueError: no such name; says what there is and what was probably meant.
  """
  check_name(name, table, kind)
  return table[name]


def check_name(name: str, choices: Iterable[str], kind: str):
  """Raises a ValueError unless the name is among the choices, as `find` does."""
  if name not in choices:
    raise ValueError(f'unknown {kind} {name!r}{suggest(name, choices)}')


def suggest(name: str, choices: Iterable[str]) -> str:
  """Ends an error message: the nearest choice, and what there is.

  A name that choices begin with, or that is behind the slash of some, is taken for short; else
  those spelled like it count.
  """
  name, choices = str(name).lower(), sorted(map(str, choices))
  near = [choice for choice in choices if name and choice.lower().startswith(name)][:3]
  near = near or [choice for choice in choices if name and choice.lower().endswith(f'/{name}')][:3]
  spelled = {choice.lower(): choice for choice in choices}
  near = near or [spelled[n] for n in difflib.get_close_matches(name, spelled, n=1)]
  hint = f'; did you mean {" or ".join(map(repr, near))}?' if near else ''
  more = f', … {len(choices) - _SHOWN} more' if len(choices) > _SHOWN else ''
  return f'{hint} (choices: {", ".join(choices[:_SHOWN])}{more})'


def show(text: str, most: int | None = None) -> str:
  """A text as a line for a person: what does not print is escaped, and the middle left out.

  Args:
    most: letters to show; None for all.
  """
  text = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
  if most is None or len(text) <= most:
    return text
  return f'{text[: most - most // 2 - 1]}…{text[-(most // 2) :]}'
