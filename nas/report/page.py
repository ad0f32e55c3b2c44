"""The page of any report: its frame, the summary at its head, and its sections."""

import html
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.report.html import Html, join, tag
from nas.space import Space

# Nothing may be loaded: the browser itself is told so.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def make_page(title: str, space: Space, summary: Html, sections: Mapping[str, Html]) -> str:
  """The text of a page about a search of a space: sections by name, with links to them."""
  anchors = {name: name.lower().replace(' ', '-') for name in sections}
  links = [tag('a', name, href=f'#{anchor}') for name, anchor in anchors.items()]
  networks = f'{len(space)} decisions, {_format_power(space.count())} networks.'
  body = tag(
    'main',
    tag('header', tag('h1', title), tag('nav', *links)),
    tag('section', tag('h2', 'Summary'), summary, id='summary'),
    *[tag('section', tag('h2', name), part, id=anchors[name]) for name, part in sections.items()],
    tag('footer', f'Space {space.digest}: {networks}'),
  )
  style = importlib.resources.files(__package__).joinpath('style.css')
  return PAGE.format(title=html.escape(title), style=style.read_text('utf-8'), body=body)


def write_page(path, text: str):
  """Writes a page, whole or not at all."""
  path = Path(path)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    part.write_text(text, encoding='utf-8')
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def make_tiles(tiles: Sequence[tuple[str, str, str]]) -> Html:
  """The greatest numbers of a page: name, value and what more is to say of each."""
  return tag(
    'ul',
    *[
      tag('li', tag('span', name), tag('b', value), tag('small', more))
      for name, value, more in tiles
    ],
    class_='tiles',
  )


def make_command(title: str, command: str) -> Html:
  """A command that one click selects."""
  return join([tag('h3', title), tag('pre', command, class_='command')])


def _format_power(count: int) -> str:
  return f'{count:,}' if count < 10**6 else f'about 10^{len(str(count)) - 1}'
