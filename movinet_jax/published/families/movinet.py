"""MoViNet: supplement of the paper (arXiv:2103.11511), and TensorFlow's model garden.

The Xeon latencies of the supplement's Figure 2 are left out: the text has none of its values.
"""

from collections.abc import Iterator

from movinet_jax.published.rows import (
  CHARADES,
  KINETICS_400,
  KINETICS_600,
  KINETICS_700,
  MOMENTS,
  SSV2,
  Latency,
  Result,
)

_CAUSAL = {'causal': True}
_PAPER = 'MoViNet, supplement, '
_README = 'MoViNet, README of the released checkpoints'
_YAML = 'MoViNet, comment in the released training file'
_STREAM = "the paper's stream: the base network made causal, without the (2+1)D of the release"

# Name, and of the base and of the stream: top-1, top-5. GFLOPs are printed rounded to two digits.
_RELEASED = (
  ('a0', 2.7, (72.28, 90.92), (72.05, 90.63)),
  ('a1', 6.0, (76.69, 93.40), (76.45, 93.25)),
  ('a2', 10, (78.62, 94.17), (78.40, 94.05)),
  ('a3', 57, (81.79, 95.67), (80.09, 94.84)),
  ('a4', 110, (83.48, 96.16), (81.49, 95.66)),
  ('a5', 280, (84.27, 96.39), (82.37, 95.79)),
)

# Tables of the supplement. Name (a final s is the paper's stream), top-1, top-5, GFLOPs, M
# parameters.
_K600 = (
  ('a0', 71.5, 90.4, 2.71, 3.1),
  ('a0s', 70.3, 90.1, 2.73, 3.1),
  ('a1', 76.0, 92.6, 6.02, 4.6),
  ('a1s', 75.6, 92.8, 6.06, 4.6),
  ('a2', 77.5, 93.4, 10.3, 4.8),
  ('a2s', 76.5, 93.3, 10.4, 4.8),
  ('a3', 80.8, 94.5, 56.9, 5.3),
  ('a4', 81.2, 94.9, 105, 4.9),
  ('a5', 82.7, 95.7, 281, 15.7),
)
_K400 = (
  ('a0', 65.8, None, 2.71, 3.1),
  ('a1', 70.2, None, 6.02, 4.6),
  ('a1s', 68.3, None, 6.06, 4.6),
  ('a2', 74.1, None, 10.3, 4.8),
  ('a3', 75.9, None, 56.9, 5.3),
  ('a4', 76.4, None, 105, 5.9),
  ('a5', 78.2, None, 289, 15.7),
  ('a6', 79.1, None, 289, 31.4),
)
_K700 = (
  ('a0', 58.5, None, 2.71, 3.1),
  ('a1', 63.5, None, 6.02, 4.6),
  ('a2', 66.7, None, 10.3, 4.8),
  ('a3', 68.0, None, 56.9, 5.3),
  ('a4', 70.7, None, 105, 4.9),
  ('a5', 71.7, None, 281, 15.7),
  ('a6', 72.3, None, 386, 31.4),
)
_MIT = (
  ('a0', 27.5, None, 4.07, 3.1),
  ('a1', 32.0, None, 9.03, 4.6),
  ('a2', 34.3, None, 15.5, 4.8),
  ('a2s', 33.6, None, 15.6, 4.8),
  ('a3', 35.6, None, 35.6, 5.3),
  ('a4', 37.9, None, 98.4, 4.9),
  ('a5', 39.1, None, 175, 15.7),
  ('a6', 40.2, None, 274, 31.4),
)
_SSV2 = (
  ('a0', 61.3, 88.2, 2.71, 3.1),
  ('a0s', 60.9, 88.3, 2.73, 3.1),
  ('a1', 62.7, 89.0, 6.02, 4.6),
  ('a1s', 61.6, 87.3, 6.06, 4.6),
  ('a2', 63.5, 89.0, 10.3, 4.8),
  ('a2s', 63.1, 89.0, 10.4, 4.8),
  ('a3', 64.1, 88.8, 23.7, 5.3),
)
_CHARADES = (('a2', 32.5, 6.59, 4.8), ('a4', 48.5, 90.4, 4.9), ('a6', 63.2, 306, 31.4))

# Printed numbers that do not agree with the supplement's other tables.
_NOTES = {
  ('Table 4', 'a4'): '5.9 M as printed; the other tables print 4.9 M',
  ('Table 4', 'a5'): '289 as printed; the tables of Kinetics-600 and 700 print 281',
  ('Table 4', 'a6'): '289 as printed, which is the number of A5 alone; Table 6 prints 386 for A6',
}

_SIZES = {'a0': 172, 'a1': 172, 'a2': 224, 'a3': 256, 'a4': 290, 'a5': 320, 'a6': 320}


def _name_movinet(short: str) -> dict:
  """The network of a row of the supplement, and what it is."""
  name = short.removesuffix('s')
  family = 'ensemble' if name in ('a6', 'a7') else 'movinet'
  told = {'network': f'{family}/{name}'}
  return told | ({'fields': _CAUSAL, 'differs': _STREAM} if short.endswith('s') else {})


def _list_released() -> Iterator[Result]:
  for name, gmacs, base, stream in _RELEASED:
    for network, (top1, top5) in ((name, base), (f'{name}-stream', stream)):
      network = f'movinet/{network}'
      yield Result(network, KINETICS_600, _README, top1=top1, top5=top5, gmacs=gmacs)
  yield Result('movinet/t0', KINETICS_600, _YAML, top1=68.40)
  yield Result('movinet/t0-stream', KINETICS_600, _YAML, top1=67.17)
  yield Result('ensemble/a6', KINETICS_600, _README, top1=84.8)


def _list_movinet() -> Iterator[Result]:
  """The supplement's tables. All of one view, at the size of training (C.4)."""
  tables = (
    (KINETICS_600, 'Table 5', _K600, None),
    (KINETICS_700, 'Table 6', _K700, None),
    (KINETICS_400, 'Table 4', _K400, None),
    (MOMENTS, 'Table 7', _MIT, 75),
    (SSV2, 'Table 9', _SSV2, 50),
  )
  for dataset, table, rows, frames in tables:
    for short, top1, top5, gmacs, mparams in rows:
      yield Result(
        dataset=dataset,
        source=_PAPER + table,
        top1=top1,
        top5=top5,
        gmacs=gmacs,
        mparams=mparams,
        clip=frames and (frames, _SIZES[short.removesuffix('s')]),
        note=_NOTES.get((table, short), ''),
        **_name_movinet(short),
      )
  for short, mean_ap, gmacs, mparams in _CHARADES:  # 64 frames, says B.1, which do not cost that
    told = {'gmacs': gmacs, 'mparams': mparams, 'clip': (64, _SIZES[short])}
    told |= {'mean_ap': mean_ap} | _name_movinet(short)
    yield Result(dataset=CHARADES, source=_PAPER + 'Table 8', **told)
  # Table 2, whose accuracy of A3 to A5 as the paper's streams is in no other table.
  for short, _, _, _, top1 in _V100[3:]:
    told = _name_movinet(short)
    yield Result(dataset=KINETICS_600, source=_PAPER + 'Table 2', top1=top1, **told)


# Table 2: milliseconds a clip and a frame, frames that these make, and top-1.
_V100 = (
  ('a0s', 183, 3.7, 50, 70.3),
  ('a1s', 315, 6.3, 50, 75.6),
  ('a2s', 325, 6.5, 50, 76.5),
  ('a3s', 1110, 9.2, 120, 79.6),
  ('a4s', 1130, 14.1, 80, 80.5),
  ('a5s', 2310, 19.2, 120, 82.0),
)

# TF Lite, float32, one core: milliseconds a frame on a Pixel 4 and on the Xeon of Figure 2.
_TFLITE = (
  ('a0', 22, 16),
  ('a1', 42, 33),
  ('a2', 200, 66),
  ('a3', None, 120),
  ('a4', None, 300),
  ('a5', None, 450),
)


def _list_movinet_latencies() -> Iterator[Latency]:
  for short, clip_ms, frame_ms, frames, _ in _V100:
    told = {'clip_ms': clip_ms, 'frame_ms': frame_ms, 'frames': frames} | _name_movinet(short)
    yield Latency(device='NVIDIA V100', source=_PAPER + 'Table 2', **told)
  for name, pixel, xeon in _TFLITE:
    for device, value in (('Intel Xeon W-2135, one core', xeon), ('Pixel 4, one core', pixel)):
      if value is not None:
        network, source = f'movinet/{name}-stream', f'{_README}, TF Lite'
        yield Latency(network, device, source, frame_ms=value, frames=1)


# The released training files; of an ensemble, that of its largest member.
_SIDES = {'t0': 176, 'a0': 192, 'a1': 192, 'a2': 256, 'a3': 288, 'a4': 320, 'a5': 368}
SHORT_SIDES = {
  **{f'movinet/{name}': side for name, side in _SIDES.items()},
  **{f'movinet/{name}-printed': side for name, side in _SIDES.items()},
  **{f'ensemble/{name}-pair': side for name, side in _SIDES.items()},
  **{f'ensemble/{name}': _SIDES['a5'] for name in ('a6', 'a7')},
}
RESULTS = (*_list_released(), *_list_movinet())
LATENCIES = tuple(_list_movinet_latencies())
