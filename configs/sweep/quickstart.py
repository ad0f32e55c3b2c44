"""Searches that train many networks, in minutes on a laptop, on generated videos.

Command:   movinet sweep --config=configs/sweep/quickstart.py --workdir=runs/sweep
Variants:  scale (default): the coefficients that scale a small MoViNet space;
           expand: an image network of X3D's kind, expanded along six axes;
           evolve: Tiny Video Networks under a limit of measured time.
Data:      four classes of motion, written at the first run; a single frame says nothing of
           its class, so what these searches have to find is time.
Hardware:  two CPU cores, two workers.
"""

import ml_collections


def get_config(variant: str = 'scale') -> ml_collections.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'no variant {variant!r}; there are {", ".join(VARIANTS)}')
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.study = f'quickstart-{variant}'
  cfg.train_with = 'configs/movinet/quickstart.py'
  cfg.data = {'train': {'name': 'motion', 'root': 'runs/sweep-videos', 'split': 'train'}}
  cfg.held_out = 0.3  # of the training videos: what networks are scored on
  cfg.fitness = ('top1',)
  cfg.workers = 2
  cfg.latency_repeats = 3
  cfg.limits = {}  # of evolve: most params, macs, latency_ns
  cfg.pruning = {}  # early stops: see nas.trials.pruning
  cfg.trial_secs = 0  # of one trial, at most; 0: as long as it takes
  cfg.recipe = {
    'model': {},
    'clip': {'train': {}, 'eval': {}},
    'optimizer': {'learning_rate': 40.0, 'warmup_steps': 10},
    'train': {'ema_decay': 0.9},
    # In so few steps moving averages of statistics do not get far.
    'precise_norm': {'batches': 4, 'batch_size': 32},
    'loop': {'eval_every': 0},
    'checkpoints': {'keep': 1},
  }
  VARIANTS[variant](cfg)
  return cfg


def _scale(cfg):
  cfg.algorithm = {'name': 'scale', 'draws': 4, 'top': 2, 'recheck': 1}
  cfg.space = {
    'name': 'scaling',
    'base': {
      'stem': 16,
      'widths': (32,),
      'strides': (2,),
      'depth': 2,
      'project': 64,
      'kernels': ((3, 3, 3), (5, 3, 3)),
      'expansions': (2.0, 3.0),
      'multipliers': (1.0, 1.5),
      'stem_multipliers': (1.0,),
      'head': 64,
      'frames': 4,
      'resolution': 16,
      'frame_stride': 4,
      'whole_stride': True,  # these videos do not have the 25 fps that strides are of
    },
    'tolerance': 0.25,  # so small, sizes round coarsely
    'samples': 3,
    'phis': (1.0, 1.5),
    # Depth alone would be 36 layers, minutes of compilation each.
    'baselines': ('width', 'resolution', 'rate'),
    'num_classes': 4,
  }
  cfg.recipe.loop.total_steps = 60


def _expand(cfg):
  cfg.algorithm = {'name': 'expand', 'targets': {'tiny': 1.2e6}}
  cfg.space = {
    'name': 'x3d',
    'frames': (1, 2, 4, 8),
    'frame_stride': (1, 2, 4),
    'resolution': (16, 20, 24, 28, 32, 40, 48),
    'depth': (0.4, 1.0, 2.0),  # 6, 11 and 22 layers: most of the time is compilation
    'width': (0.7, 1.0, 1.4, 2.0, 2.8),
    'bottleneck': (1.0, 1.5, 2.25, 3.0, 4.0),
    'num_classes': 4,
    'hidden': 128,
  }
  # These blocks begin as their shortcuts, which RMSprop at the others' rate never leaves.
  cfg.recipe.optimizer = {'name': 'adamw', 'learning_rate': 0.4, 'warmup_steps': 10}
  cfg.recipe.loop.total_steps = 100


def _evolve(cfg):
  cfg.algorithm = {
    'name': 'evolve',
    'budget': 24,
    'population': 8,
    'tournament': 4,
    'lag': 1,
  }
  cfg.space = {
    'name': 'tvn',
    'resolution': (16, 24, 32),
    'frames': (1, 2, 4, 8),
    'frame_stride': (1, 2),
    'longest_frames': 16,
    'most_blocks': 2,
    'features': (16, 24, 32),
    'expand': (1, 2),
    'repeats': (1, 2),
    'kernels': (2, 3, 4),
    'strides': (3, 2),
    'squeeze': (0.0, 0.25),
    'non_local': (0, 8),
  }
  cfg.limits = {'latency_ns': 3e6, 'params': 60_000}
  cfg.recipe.loop.total_steps = 60


VARIANTS = {'scale': _scale, 'expand': _expand, 'evolve': _evolve}
