"""Clips that are longer or shorter than those in training, in minutes on a laptop.

Command:   movinet compare --config=configs/compare/quickstart.py --workdir=runs/compare
Data:      four classes of motion, written at the first run; a single frame says nothing of its
           class. Textures move half as fast as in the other quickstarts, so few frames say little.
Question:  that of configs/compare/duration.py, Figure 6 of MoViNet's supplement.
Hardware:  two CPU cores, 3 minutes of processor time.
"""

import ml_collections

from configs.movinet import quickstart

TRAIN_FRAMES = (2, 4, 8)
EVAL_FRAMES = (1, 2, 4, 8, 12)
VIDEOS = {'name': 'motion', 'root': 'runs/compare-videos', 'videos_per_class': 200, 'speed': 1.0}


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  if variant:
    raise ValueError(f'no variant {variant!r}; there is none')
  cfg = ml_collections.ConfigDict()
  cfg.base = quickstart.get_config()
  cfg.base.data = {'train': {**VIDEOS, 'split': 'train'}, 'eval': {**VIDEOS, 'split': 'val'}}
  cfg.base.precise_norm = {'batches': 20, 'batch_size': 16}
  cfg.base.loop.total_steps = 200
  cfg.trainings = {
    f'train{n}': {'clip': {'train': {'frames': n}, 'eval': {'frames': n}}} for n in TRAIN_FRAMES
  }
  cfg.evaluations = {f'frames{n}': {'frames': n} for n in EVAL_FRAMES}
  cfg.plot = {
    'title': 'A small MoViNet-Stream on moving textures',
    **{'x': 'frames', 'y': 'top1', 'series': ('train_frames',)},
  }
  return cfg
