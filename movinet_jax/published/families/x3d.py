"""X3D: the paper (arXiv:2004.04730), PyTorchVideo's model zoo, and what MoViNet measured."""

from collections.abc import Iterator

from movinet_jax.published.rows import CHARADES, KINETICS_400, KINETICS_600, Latency, Result

# Table 2: top-1, top-5, GFLOPs of the native clip, M parameters; ten center clips.
_X3D = (
  ('xs', 68.6, 87.9, 0.60, 3.76),
  ('s', 72.9, 90.5, 1.96, 3.76),
  ('m', 74.6, 91.7, 4.73, 3.76),
  ('l', 76.8, 92.5, 18.37, 6.08),
  ('xl', 78.4, 93.6, 35.84, 11.0),
  ('xxl', 80.0, 94.5, 143.5, 20.3),
)
# Tables 4 to 6: data set, network, accuracy, top-5, GFLOPs of one of 30 views, M parameters.
_X3D_30 = (
  (KINETICS_400, 'Table 4', 'm', 76.0, 92.3, 6.2, 3.8),
  (KINETICS_400, 'Table 4', 'l', 77.5, 92.9, 24.8, 6.1),
  (KINETICS_400, 'Table 4', 'xl', 79.1, 93.9, 48.4, 11.0),
  (KINETICS_400, 'Table 4', 'xxl', 80.4, 94.6, 194.1, 20.3),
  (KINETICS_600, 'Table 5', 'm', 78.8, 94.5, 6.2, 3.8),
  (KINETICS_600, 'Table 5', 'xl', 81.9, 95.5, 48.4, 11.0),
)
# PyTorchVideo's released weights: top-1, top-5, GFLOPs of one of 30 views, M parameters.
_X3D_ZOO = (
  ('xs', 69.12, 88.63, 0.91, 3.79),
  ('s', 73.33, 91.27, 2.96, 3.79),
  ('m', 75.94, 92.72, 6.72, 3.79),
  ('l', 77.44, 93.31, 26.64, 6.15),
)
# MoViNet, supplement, Table 2, on one clip of the whole video, whose size is not printed:
# milliseconds a clip and a frame, frames that these make, and top-1.
_V100_X3D = (('m', 345, 6.9, 50, 76.9), ('xl', 943, 18.9, 50, 80.3))
_MEASURED = 'MoViNet, supplement, Table 2'
_WHOLE = 'one clip of the whole video, of a size that is not printed'
_X3D_VIEWS = {'xs': (4, 182), 's': (13, 182), 'm': (16, 256), 'l': (16, 356)}
_X3D_VIEWS |= {'xl': (16, 356), 'xxl': (32, 356)}


def _list_x3d() -> Iterator[Result]:
  for name, top1, top5, gmacs, mparams in _X3D_ZOO:
    told = {'views': 30, 'gmacs': gmacs, 'mparams': mparams, 'clip': _X3D_VIEWS[name]}
    source = 'PyTorchVideo, model zoo'
    yield Result(f'x3d/{name}', KINETICS_400, source, top1=top1, top5=top5, **told)
  for name, top1, top5, gmacs, mparams in _X3D:
    told = {'views': 10, 'gmacs': gmacs, 'mparams': mparams}
    yield Result(f'x3d/{name}', KINETICS_400, 'X3D, Table 2', top1=top1, top5=top5, **told)
  for dataset, table, name, top1, top5, gmacs, mparams in _X3D_30:
    told = {'views': 30, 'gmacs': gmacs, 'mparams': mparams, 'clip': _X3D_VIEWS[name]}
    yield Result(f'x3d/{name}', dataset, f'X3D, {table}', top1=top1, top5=top5, **told)
  told = {'views': 30, 'gmacs': 48.4, 'mparams': 11.0, 'clip': _X3D_VIEWS['xl']}
  for pretraining, mean_ap in ((KINETICS_600, 47.1), (KINETICS_400, 43.4)):
    source = f'X3D, Table 6, begun from {pretraining}'
    yield Result('x3d/xl', CHARADES, source, mean_ap=mean_ap, **told)
  told = {'views': 10, 'gmacs': 0.02067, 'mparams': 1.63}
  yield Result('x3d/x2d', KINETICS_400, 'X3D, section 4.1', top1=47.75, **told)
  for name, _, _, frames, top1 in _V100_X3D:
    told = {'clip': (frames, None), 'differs': _WHOLE}
    yield Result(f'x3d/{name}', KINETICS_600, _MEASURED, top1=top1, **told)


def _list_x3d_latencies() -> Iterator[Latency]:
  for name, clip_ms, frame_ms, frames, _ in _V100_X3D:
    told = {'clip_ms': clip_ms, 'frame_ms': frame_ms, 'frames': frames}
    told['differs'] = _WHOLE
    yield Latency(f'x3d/{name}', 'NVIDIA V100', _MEASURED, **told)


# 128 gamma_s (section 4), rounded as SlowFast's training files round it.
SHORT_SIDES = {
  **{'x3d/x2d': 128, 'x3d/xs': 182, 'x3d/s': 182, 'x3d/m': 256},
  **{f'x3d/{name}': 356 for name in ('l', 'xl', 'xxl')},
}
RESULTS = tuple(_list_x3d())
LATENCIES = tuple(_list_x3d_latencies())
