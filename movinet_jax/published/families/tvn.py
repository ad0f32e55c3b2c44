"""Tiny Video Networks (arXiv:1910.06961)."""

from collections.abc import Iterator

from movinet_jax.published.rows import CHARADES, MOMENTS, Latency, Result

_TVN_DIFFERS = 'the network of the published code has other multiply-adds than the paper prints'
# Tables 1 to 4: milliseconds on CPU and GPU, GFLOPs (of Tables 1 and 3), and accuracy or mAP on
# Moments in Time, MLB, Charades and HMDB; M parameters of MoViNet's supplement, Table 7. How many
# clips of a video are averaged is not known from any source at hand.
_TVN = (
  ('1', 37, 10, 13.0, (23.1, 44.2, 32.2, 72.1), 11.1),
  ('2', 65, 13, 17.0, (24.2, 48.2, 32.5, 73.5), 110),
  ('3', 85, 16, 69.0, (25.4, 46.5, 33.5, 71.8), 69.4),
  ('4', 402, 19, 106, (27.8, 52.3, 35.4, 74.7), 44.2),
)
# Table 5: milliseconds on CPU, M parameters, GFLOPs, top-1 on Moments in Time.
_TVN_MOBILE = (
  ('1-swish', 39, 11.1, 13.0, 24.8),
  ('m1', 43, 5.6, 10.0, 21.95),
  ('m2', 75, 5.4, 10.1, 21.96),
)
# Tables 7 and 8: fields of the architecture, milliseconds on CPU and GPU, top-1.
_TVN_SCALED = (
  ('1', {'frames': 8}, 140, 28, 23.4, 'Table 7'),
  ('1', {'frames': 16}, 200, 45, 23.5, 'Table 7'),
  ('1-2x-res', {}, 140, 28, 23.5, 'Table 8'),
  ('1-4x-res', {}, 200, 45, 24.1, 'Table 8'),
  ('1-2x-wide', {}, 130, 38, 23.8, 'Table 8'),
  ('1-4x-wide', {}, 275, 60, 24.2, 'Table 8'),
  ('1-2x-deep', {}, 181, 44, 23.7, 'Table 8'),
  ('1-4x-deep', {}, 270, 65, 23.9, 'Table 8'),
)
_PARAMS = 'MoViNet, supplement, Table 7'
_TVN_CPU, _TVN_GPU = 'Intel Xeon, 2.9 GHz', 'NVIDIA V100'


def _list_tvn() -> Iterator[Result]:
  every = {'differs': _TVN_DIFFERS, 'views': None}
  sets = ((MOMENTS, 'top1'), ('MLB', 'mean_ap'), (CHARADES, 'mean_ap'), ('HMDB', 'top1'))
  for table, (dataset, metric) in enumerate(sets, 1):
    for name, _, _, gmacs, accuracies, mparams in _TVN:
      told = {metric: accuracies[table - 1]} | every
      if table in (1, 3):
        told['gmacs'] = gmacs
      if table == 1:
        told |= {'mparams': mparams, 'params_source': _PARAMS}
      yield Result(f'tvn/{name}', dataset, f'TVN, Table {table}', **told)
  for name, _, mparams, gmacs, top1 in _TVN_MOBILE:
    told = {'top1': top1, 'gmacs': gmacs, 'mparams': mparams} | every
    yield Result(f'tvn/{name}', MOMENTS, 'TVN, Table 5', **told)
  for name, fields, _, _, top1, table in _TVN_SCALED:
    told = {'top1': top1, 'fields': fields} | every
    yield Result(f'tvn/{name}', MOMENTS, f'TVN, {table}', **told)


def _list_tvn_latencies() -> Iterator[Latency]:
  rows = [(name, {}, cpu, gpu, 'Table 1') for name, cpu, gpu, *_ in _TVN]
  rows += [(name, {}, cpu, None, 'Table 5') for name, cpu, *_ in _TVN_MOBILE]
  rows += [(name, fields, cpu, gpu, table) for name, fields, cpu, gpu, _, table in _TVN_SCALED]
  for name, fields, cpu, gpu, table in rows:
    for device, value in ((_TVN_CPU, cpu), (_TVN_GPU, gpu)):
      if value is not None:
        told = {'clip_ms': value, 'differs': _TVN_DIFFERS, 'fields': fields}
        yield Latency(f'tvn/{name}', device, f'TVN, {table}', **told)


SHORT_SIDES: dict[str, int] = {}
RESULTS = tuple(_list_tvn())
LATENCIES = tuple(_list_tvn_latencies())
