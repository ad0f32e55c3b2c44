"""A two-stream network drawn: its streams side by side, fusions between, attention marked."""

from collections.abc import Mapping

from nas.report.findings import Findings, ProgressiveFindings

FUSIONS = {
  'none': '',
  'sample': '⟵ one dense frame for each sparse one',
  'stack': '⟵ all dense frames as channels',
  'conv': '⟵ strided convolution in time',
}


def make(findings: Findings | ProgressiveFindings) -> list[tuple]:
  spec = (findings.found or {}).get('spec')
  if spec is None:
    return [('missing', 'No network has been found yet.')]
  dense, fusions = spec.get('dense') or (), spec.get('fusions') or ()
  rows = []
  for i, sparse in enumerate(spec['sparse']):
    row = [('bold', f'Group {i}'), _draw(sparse), _mark(sparse)]
    if dense:
      row += [FUSIONS[fusions[i]], _draw(dense[i]), _mark(dense[i])]
    rows.append(row)
  titles = ('', 'Sparse stream', 'Attention')
  titles += ('Fusion behind the group', 'Dense stream', 'Attention') if dense else ()
  taken = [kind for kind in fusions if kind != 'none']
  attended = sum(bool(group['attention']) for group in (*spec['sparse'], *dense))
  said = (
    f'Fusions: {len(taken)}. Attention blocks: {attended}. The sparse stream sees one frame in '
    f'{spec["ratio"]}.'
    if dense
    else f'There is no dense stream. Attention blocks: {attended}.'
  )
  return [('note', said), ('table', titles, rows, len(titles))]


def _draw(group: Mapping) -> tuple:
  facts = {key: group[key] for key in ('features', 'expansion', 'kernel', 'depth', 'stride')}
  return 'layer', facts, *group['kernel']


def _mark(group: Mapping) -> str:
  return '★ GloRe' if group['attention'] else ''
