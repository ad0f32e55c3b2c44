"""One long clip of a video or several short ones: views, frames and accuracy.

Paper:     MoViNets, https://arxiv.org/abs/2103.11511, supplement, C.4 and Figure 4: A2 on
           Kinetics-600 with stride 3, trained on 8, 16 and 48 frames, evaluated on single clips
           and on several.
           X3D, https://arxiv.org/abs/2004.04730, Figure 3: K-center tests, K = 1, 3, 5, 7, 10.
Command:   movinet build-data kinetics --version 600 …     (see configs/movinet/kinetics600.py)
           movinet compare --config=configs/compare/views.py --workdir=runs/views
Variants:  (none)    MoViNet's Figure 4
           stream    the same of A2-stream, whose 48 frames are trained as three parts, with the
                     memory of 16
           x3d       X3D's Figure 3, of S, M, L and XL on Kinetics-400
Hardware:  3 trainings as in configs/movinet/kinetics600.py; x3d: 4 as in
           configs/x3d/kinetics400.py.
Result:    not reproduced here. MoViNet finds that several clips help until they fill the video,
           at 5 clips of 8 frames or 3 of 16; that 80 frames at once, after training on 16, are
           better than as many in several clips; and that training on 48 is better still.

From the papers: networks, stride, frames in training, K. Inferred, because Figure 4 is a picture
without a table: its numbers of clips, and its frames in evaluation below 80.
"""

import ml_collections

from configs.movinet import kinetics600
from configs.x3d import kinetics400

TRAIN_FRAMES = (8, 16, 48)
SINGLE = (8, 16, 32, 48, 64, 80)  # frames of a single clip; 80 are all of a video
SEVERAL = {8: (2, 3, 5, 10), 16: (2, 3, 5)}  # clips by the frames of one
X3DS = ('s', 'm', 'l', 'xl')
CENTERS = (1, 3, 5, 7, 10)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  if variant not in ('', 'stream', 'x3d'):
    raise ValueError(f'no variant {variant!r}; there are stream, x3d')
  return _get_x3d() if variant == 'x3d' else _get_movinet('a2-stream' if variant else 'a2')


def _get_movinet(name: str) -> ml_collections.ConfigDict:
  cfg = ml_collections.ConfigDict()
  cfg.base = kinetics600.get_config(name)
  cfg.base.clip.train.stride = cfg.base.clip.eval.stride = 3
  cfg.trainings = {
    f'train{n}': {'clip': {'train': {'frames': n}, 'eval': {'frames': n}}} for n in TRAIN_FRAMES
  }
  if name.endswith('-stream'):
    cfg.trainings.train48.train = {'subclips': 3}
  cfg.evaluations = {f'frames{n}': {'frames': n} for n in SINGLE}
  for frames, counts in SEVERAL.items():
    for clips in counts:
      cfg.evaluations[f'clips{clips}x{frames}'] = {
        'trainings': (f'train{frames}',),
        'frames': frames,
        'clips': clips,
      }
  cfg.plot = {
    'title': f'MoViNet-{name.title()}, stride 3, Kinetics-600',
    **{'x': 'seen', 'y': 'top1'},
    **{'series': ('train_frames', 'mode'), 'label': 'clips'},
  }
  return cfg


def _get_x3d() -> ml_collections.ConfigDict:
  cfg = ml_collections.ConfigDict()
  cfg.base = kinetics400.get_config('s')
  cfg.trainings = {}
  for name in X3DS:
    own = kinetics400.get_config(name)
    cfg.trainings[name] = {'model': own.model, 'clip': own.clip}
  cfg.evaluations = {f'center{n}': {'clips': n} for n in CENTERS}
  cfg.plot = {
    'title': 'X3D, K-center tests, Kinetics-400',
    **{'x': 'gmacs', 'y': 'top1', 'log': True},
    **{'series': ('network',), 'label': 'clips'},
  }
  return cfg
