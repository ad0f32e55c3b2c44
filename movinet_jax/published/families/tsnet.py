"""Auto-TSNet (ICCV 2021). It prints no latencies."""

from collections.abc import Iterator

from movinet_jax.published.rows import KINETICS_400, SSV2, Result

_AUTO_DIFFERS = 'reconstructed: the paper draws its network and does not print it'
_MANUAL_DIFFERS = 'widths chosen here by the printed share of multiply-adds'
# Table 3: top-1 of 30 views, GFLOPs of one view, M parameters, size of a view.
_TSNET_30 = (
  ('auto-s', 75.4, 3.4, 8.6, 182),
  ('auto-s-plain', 74.6, 2.8, 7.7, 182),
  ('auto-m', 77.3, 6.1, 8.6, 256),
  ('auto-m-plain', 76.6, 5.2, 7.7, 256),
  ('auto-l', 78.9, 19.9, 13.2, 356),
  ('auto-l-plain', 78.3, 18.1, 12.2, 356),
)
# Tables 4 to 8, ten center clips: top-1, GFLOPs of the native clip, M parameters. Table 5 has no
# parameters; Table 3 has those of two of its networks.
_TSNET_10 = (
  ('auto-s', 74.6, 2.46, 8.6, 'Table 5'),
  ('auto-s-plain', 74.1, 2.05, 7.7, 'Table 5'),
  ('auto-s-sparse', 70.8, 1.39, None, 'Table 5'),
  ('manual-85', 72.8, None, None, 'Table 4'),
  ('manual-70', 73.2, 2.03, 7.71, 'Table 8'),
  ('manual-55', 72.4, None, None, 'Table 4'),
  ('manual-70-sparse', 70.2, 1.40, None, 'Table 6'),
  ('manual-70-fusion0', 70.7, None, None, 'Table 7'),
  ('manual-70-fusion5', 73.2, None, None, 'Table 7'),
  ('manual-70-fusion10', 71.2, None, None, 'Table 7'),
  ('manual-70-fusion-searched', 73.7, None, None, 'Table 7'),
  ('manual-70-attention2', 72.7, 2.19, 8.03, 'Table 8'),
  ('manual-70-attention4', 73.2, 2.41, 8.24, 'Table 8'),
  ('manual-70-attention6', 73.3, 2.51, 8.37, 'Table 8'),
  ('manual-70-attention-searched', 73.6, 2.40, 8.15, 'Table 8'),
)
# Table 11: top-1. It prints GFLOPs of all views together, 23.7 and 46.5, and no number of views.
_TSNET_SSV2 = (('auto-s', 62.3), ('auto-m', 63.6))


def _list_tsnet() -> Iterator[Result]:
  for name, top1, gmacs, mparams, size in _TSNET_30:
    told = {'top1': top1, 'views': 30, 'gmacs': gmacs, 'mparams': mparams, 'clip': (32, size)}
    yield _make_result(name, KINETICS_400, 'Table 3', **told)
  for name, top1, gmacs, mparams, table in _TSNET_10:
    told = {'top1': top1, 'views': 10, 'gmacs': gmacs, 'mparams': mparams}
    if mparams and table == 'Table 5':
      told['params_source'] = 'Auto-TSNet, Table 3'
    yield _make_result(name, KINETICS_400, table, **told)
  for name, top1 in _TSNET_SSV2:
    yield _make_result(name, SSV2, 'Table 11', top1=top1, views=None)


def _make_result(name: str, dataset: str, table: str, **told) -> Result:
  differs = _AUTO_DIFFERS if name.startswith('auto') else _MANUAL_DIFFERS
  return Result(f'tsnet/{name}', dataset, f'Auto-TSNet, {table}', differs=differs, **told)


# Section 5.2 says 182 for S, and Table 3 the sizes of the views of M and L, which are X3D's.
_SIDES = {'s': 182, 's-sparse': 182, 's-plain': 182, 'm': 256, 'm-plain': 256}
_SIDES |= {'l': 356, 'l-plain': 356}
SHORT_SIDES = {f'tsnet/auto-{name}': side for name, side in _SIDES.items()}
RESULTS = tuple(_list_tsnet())
LATENCIES = ()
