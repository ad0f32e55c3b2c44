"""HTML elements, and how values are written in them.

Everything goes through `tag`, which escapes what is not HTML already.
"""

import html
import math
from collections.abc import Mapping, Sequence

from nas.report.findings import is_finite

# Sizes and names of units, greatest first.
Units = Sequence[tuple[float, str]]
PLAIN: Units = ((1, ''),)
COUNTS: Units = ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k'), (1, ''))
BYTES: Units = ((2**30, ' GiB'), (2**20, ' MiB'), (2**10, ' KiB'), (1, ' B'))
SECS: Units = ((3600, ' h'), (60, ' min'), (1, ' s'))
NANOSECS: Units = ((1e9, ' s'), (1e6, ' ms'), (1e3, ' µs'))


class Html(str):
  """Text that is HTML."""


def tag(name: str, /, *inside, **attributes) -> Html:
  """An element. `class_` stands for class, `stroke_width` for stroke-width."""
  written = ''.join(
    f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
    for key, value in attributes.items()
    if value is not None
  )
  return Html(f'<{name}{written}>{join(inside)}</{name}>')


def join(parts) -> Html:
  return Html(''.join(p if isinstance(p, Html) else html.escape(str(p)) for p in parts))


def note(text: str) -> Html:
  return tag('p', text, class_='note')


def missing(text: str) -> Html:
  return tag('p', text, class_='missing')


def warn(title: str, *said: str) -> Html:
  """What a reader should not overlook, a paragraph each."""
  inside = [tag('b', title), *[tag('p', line) for line in said]]
  return tag('div', *inside, class_='warning', role='note')


def fold(title: str, *inside, **attributes) -> Html:
  """What is shown when its title is clicked."""
  return tag('details', tag('summary', title), *inside, **attributes)


def table(names: Sequence[str], rows: Sequence[Sequence], texts: int = 1) -> Html:
  """A table whose columns behind the first `texts` are numbers, set to the right."""

  def row(kind, cells):
    sides = [None if i < texts else 'number' for i in range(len(names))]
    return tag('tr', *[tag(kind, c, class_=s) for c, s in zip(cells, sides, strict=True)])

  body = [row('td', cells) for cells in rows]
  whole = tag('table', tag('thead', row('th', names)), tag('tbody', *body))
  return tag('div', whole, class_='scroll')


def figure(title: str, svg: Html, *keys: Html, below: str = '') -> Html:
  inside = [tag('figcaption', tag('b', title), *keys), tag('div', svg, class_='scroll')]
  if below:
    inside.append(note(below))
  return tag('figure', *inside)


def key(colour: str, text: str) -> Html:
  """What a colour of a chart means."""
  return tag('span', tag('i', class_=f'swatch {colour}'), text, class_='key')


def capitalize(text: str) -> str:
  """With a capital at its beginning, and the others as they are."""
  return f'{text[:1].upper()}{text[1:]}'


def format_number(value, digits: int = 3) -> str:
  """An accuracy, a reward or a rate."""
  return f'{value:.{digits}f}'.replace('-', '−') if is_finite(value) else '–'


def format_change(value) -> str:
  """A difference of accuracies, with its sign."""
  return f'{value:+.4f}'.replace('-', '−') if is_finite(value) else '–'


def cost_units(name: str) -> Units:
  """Of a cost by its name in nas.cost.TITLES."""
  return {'latency_ns': NANOSECS, 'state_bytes': BYTES}.get(name, COUNTS)


def pick_unit(units: Units, value: float) -> tuple[float, str]:
  """The greatest unit that a value has at least one of, else the smallest."""
  return next((unit for unit in units if abs(value) >= unit[0]), units[-1])


def format_amount(value, units: Units = COUNTS) -> str:
  """Three digits in the unit that fits: 1.25G, 480M, 12k."""
  if not is_finite(value):
    return '–'
  size, name = pick_unit(units, float(f'{value:.3g}'))  # 999,999 is 1M, not 1000k
  return f'{float(f"{value / size:.3g}"):g}{name}'


def format_cost(name: str, value) -> str:
  """A cost by its name in nas.cost.TITLES: 480M, 183 KiB, 48.3 ms."""
  return format_amount(value, cost_units(name))


def format_percent(share: float) -> str:
  if 0 < share < 0.01:
    return '<1 %'
  # Rounded down at the top: what is not certain, to what float32 tells, is not 100 %.
  top = math.floor(share * 100 + 1e-4)
  return f'{top if share > 0.99 else round(share * 100)} %'


def format_choice(value) -> str:
  """A value of a space or a spec: 24, 1×3×3, left out, yes."""
  if value is None:
    return 'left out'
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, Mapping):
    return ', '.join(f'{k} {format_choice(v)}' for k, v in value.items())
  if isinstance(value, (list, tuple)):
    return '×'.join(map(format_choice, value))
  return f'{value:g}' if isinstance(value, float) else str(value)
