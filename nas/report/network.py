"""The found network, drawn layer by layer."""

import json
from collections.abc import Mapping, Sequence

from nas.report.charts import rect, svg
from nas.report.findings import Findings
from nas.report.html import Html, fold, format_choice, join, key, missing, tag


def make_network(findings: Findings) -> Html:
  spec = (findings.found or {}).get('spec')
  if spec is None:
    return missing('No network has been found yet.')
  parts = [
    tag('p', 'Family ', tag('b', findings.found.get('family', 'unknown'))),
    tag('p', *_list_facts(spec, besides=('blocks', 'version')), class_='facts'),
  ]
  if blocks := spec.get('blocks'):
    parts += _draw_blocks(blocks, _list_skipped(findings.found))
  written = tag('pre', json.dumps(spec, indent=1, ensure_ascii=False))
  return join([*parts, fold('Its spec as JSON', written)])


def _list_facts(part: Mapping, besides: Sequence[str]) -> list[Html]:
  return [
    tag('span', f'{name} ', tag('b', format_choice(value)))
    for name, value in part.items()
    if name not in besides
  ]


def _list_skipped(found: Mapping) -> dict[int, set[int]]:
  """Block -> the places of layers that were left out, which a spec does not tell."""
  skipped = {}
  for path, value in found.get('choices', {}).items():
    keys = path.split('/')
    if value is None and len(keys) == 4 and (keys[0], keys[2]) == ('blocks', 'layers'):
      skipped.setdefault(int(keys[1]), set()).add(int(keys[3]))
  return skipped


def _draw_blocks(blocks: Sequence[Mapping], skipped: Mapping[int, set[int]]):
  widest = max((layer.get('expand', 0) for b in blocks for layer in b.get('layers', ())), default=0)
  drawn = [_draw_block(i, b, skipped.get(i, set()), widest) for i, b in enumerate(blocks)]
  kinds = [
    key('c0', 'spatial kernel'),
    key('c1', 'spatial and temporal'),
    key('c3', 'temporal'),
    key('gone', 'left out'),
  ]
  return [tag('p', *kinds), tag('ol', *drawn, class_='blocks')]


def _draw_block(number: int, block: Mapping, skipped: set[int], widest: int) -> Html:
  layers = block.get('layers', ())
  places = len(layers) + len(skipped)
  given = iter(layers)
  cards = [
    tag('li', 'left out', class_='layer gone')
    if place in skipped
    else _draw_layer(place, next(given), widest)
    for place in range(places)
  ]
  depth = f'{len(layers)} of {places} layers' if skipped else f'{len(layers)} layers'
  unset = [name for name, value in block.items() if value is None]
  facts = _list_facts(block, besides=('layers', *unset))
  head = tag('div', tag('b', f'Block {number}'), *facts, tag('span', depth))
  return tag('li', head, tag('ol', *cards, class_='layers'))


def _draw_layer(place: int, layer: Mapping, widest: int) -> Html:
  parts = [tag('small', f'layer {place}')]
  if 'kernel' in layer:
    kernel = layer['kernel']
    sizes = (1, kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
    parts += [_draw_kernel(sizes), tag('b', format_choice(kernel))]
  if 'expand' in layer:
    share = f'width:{100 * layer["expand"] / widest:.0f}%'
    parts.append(tag('span', tag('i', style=share), class_='bar'))
    parts.append(tag('span', f'expand {layer["expand"]}'))
  if 'se' in layer:
    parts.append(tag('small', 'SE' if layer['se'] else 'no SE'))
  rest = {k: v for k, v in layer.items() if k not in ('kernel', 'expand', 'se')}
  parts += [tag('small', f'{k} {format_choice(v)}') for k, v in rest.items()]
  return tag('li', *parts, class_='layer')


def _draw_kernel(sizes: Sequence[int]) -> Html:
  """A kernel (…, T, H, W) as T sheets of H by W cells."""
  time, high, wide = (1, 1, 1, *sizes)[-3:]
  colour = 'c0' if time == 1 else 'c3' if high == wide == 1 else 'c1'
  cell = min(7, 58 / (wide + time - 1), 58 / (high + time - 1))
  gap = cell * 0.9
  width, height = wide * cell + (time - 1) * gap, high * cell + (time - 1) * gap
  left, top = (72 - width) / 2, (60 - height) / 2
  sheets = []
  for t in reversed(range(time)):
    x, y = left + t * gap, top + (time - 1 - t) * gap
    sheets.append(rect(x, y, wide * cell, high * cell, f'sheet {colour}'))
  return svg(72, 60, f'kernel {format_choice(sizes)}', *sheets, class_='kernel')
