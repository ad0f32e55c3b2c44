"""Clips that are longer or shorter than those in training: A2 on Kinetics-600, stride 3.

Paper:     MoViNets, https://arxiv.org/abs/2103.11511, supplement, C.6 and Figure 6.
Command:   movinet build-data kinetics --version 600 …     (see configs/movinet/kinetics600.py)
           movinet compare --config=configs/compare/duration.py --workdir=runs/duration
Variants:  stream: the same of A2-stream, trained in parts of 16 frames and evaluated frame by
           frame.
Hardware:  5 trainings as in configs/movinet/kinetics600.py.
Result:    not reproduced here. The paper finds accuracy to grow with the frames of the evaluation
           also beyond those of training, to be notably worse below them, and longer clips in
           training to be better for longer clips overall.

From the paper: network, stride, the question. Inferred, because the figure is a picture without a
table: the frames. 80 are all of a video.
"""

import ml_collections

from configs.movinet import kinetics600

TRAIN_FRAMES = (8, 16, 32, 48, 64)
EVAL_FRAMES = (8, 16, 32, 48, 64, 80)
PART = 16  # frames of a sub-clip


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  if variant not in ('', 'stream'):
    raise ValueError(f'no variant {variant!r}; there is stream')
  name = 'a2-stream' if variant else 'a2'
  cfg = ml_collections.ConfigDict()
  cfg.base = kinetics600.get_config(name)
  cfg.base.clip.train.stride = cfg.base.clip.eval.stride = 3
  cfg.trainings = {}
  for n in TRAIN_FRAMES:
    parts = {'train': {'subclips': n // PART}} if variant and n > PART else {}
    clip = {'train': {'frames': n}, 'eval': {'frames': n}}
    cfg.trainings[f'train{n}'] = {'clip': clip, **parts}
  mode = {'mode': 'stream'} if variant else {}
  cfg.evaluations = {f'frames{n}': {'frames': n, **mode} for n in EVAL_FRAMES}
  cfg.plot = {
    'title': f'MoViNet-{name.title()}, stride 3, Kinetics-600',
    **{'x': 'frames', 'y': 'top1', 'series': ('train_frames',)},
  }
  return cfg
