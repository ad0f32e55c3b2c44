"""Accuracy of MoViNets against multiply-adds at three frame rates, on Kinetics-600.

Paper:     MoViNets, https://arxiv.org/abs/2103.11511, supplement, Figure 1: each network trained
           and evaluated on 50, 80 and 120 frames at 5, 8 and 12 frames per second.
Command:   movinet build-data kinetics --version 600 …     (see configs/movinet/kinetics600.py)
           movinet compare --config=configs/compare/frame_rate.py --workdir=runs/frame-rate
           With --training=a4-12fps it runs one training, so that machines can share the work.
Hardware:  18 trainings of 240 epochs, each as in configs/movinet/kinetics600.py.
Result:    not reproduced here. The paper finds most networks efficient at 5 or 8 frames per
           second, and that A4 gains from 12.

From the paper: networks, frames and rates. The rest is the recipe of kinetics600.py, whose stride
jitter is left out, for clips are taken by time. That all of A0 to A5 are in the figure is our
reading; the text names A4 only.
"""

import ml_collections

from configs.movinet import kinetics600

NETWORKS = ('a0', 'a1', 'a2', 'a3', 'a4', 'a5')
RATES = ((50, 5.0), (80, 8.0), (120, 12.0))  # frames, frames per second


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  if variant:
    raise ValueError(f'no variant {variant!r}; there is none')
  cfg = ml_collections.ConfigDict()
  cfg.base = kinetics600.get_config('a0')
  cfg.trainings = {
    f'{name}-{fps:g}fps': _change(name, frames, fps) for name in NETWORKS for frames, fps in RATES
  }
  cfg.evaluations = {'clip': {}}  # as trained: one clip of the same frames
  cfg.plot = {
    'title': 'MoViNets at several frame rates, Kinetics-600',
    **{'x': 'gmacs', 'y': 'top1', 'log': True},
    **{'series': ('network',), 'label': 'rate'},
  }
  return cfg


def _change(name: str, frames: int, fps: float) -> dict:
  """What a training changes of the base: its network, and frames by time."""
  own = kinetics600.get_config(name)
  rate = {'frames': frames, 'stride': None, 'fps': fps}
  own.clip.train.update(stride_jitter=0)
  with own.clip.ignore_type(), own.clip.unlocked():
    for clip in (own.clip.train, own.clip.eval):
      clip.update(rate)
  return {'model': own.model, 'clip': own.clip, 'eval_batch_size': own.eval_batch_size}
