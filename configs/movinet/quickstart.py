"""A small MoViNet-Stream on moving textures: the whole system in minutes on a laptop.

Command:   make quickstart
Data:      four classes of motion written by the command itself; single frames of all
           classes look alike, so only a network that sees time can tell them apart.
Variants:  quickstart.py:pair is an ensemble of two such networks, each at half the frame rate and
           the second one frame later; `movinet train` with it trains both.
Hardware:  two CPU cores.
"""

import ml_collections


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  if variant not in ('', 'pair'):
    raise ValueError(f'no variant {variant!r}; there is pair')
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.batch_size = 16
  cfg.eval_batch_size = 16
  cfg.init = ''

  def layer(time, space, expand):
    return {'kernel': (time, space, space), 'expand': expand}

  cfg.model = {
    'name': 'movinet',
    'spec': {
      'stem': 16,
      'blocks': (
        {'features': 16, 'stride': 1, 'layers': (layer(5, 3, 48),)},
        {'features': 32, 'stride': 2, 'layers': (layer(3, 3, 96), layer(3, 3, 96))},
        {'features': 48, 'stride': 2, 'layers': (layer(3, 3, 144),)},
      ),
      'project': 96,
      'head': 128,
      'conv': '2plus1d',
      'se': '2plus3d',
      'causal': True,
      'activation': 'hard_swish',
      'gate': 'hard_sigmoid',
      'head_activation': 'hard_swish',
      'frames': 12,
      'resolution': 32,
      'frame_stride': 1,
    },
  }
  cfg.data = {
    'train': {'name': 'folder', 'root': 'runs/quickstart/videos', 'split': 'train'},
    'eval': {'name': 'folder', 'root': 'runs/quickstart/videos', 'split': 'val'},
  }
  cfg.clip = {
    # No flip: left and right are classes.
    'train': {
      'frames': 12,
      'size': 32,
      'stride': 1,
      'area': (0.6, 1.0),
      'aspect': (0.9, 1.1),
      'flip': False,
    },
    'eval': {'frames': 12, 'size': 32, 'stride': 1},
  }
  cfg.loader = {'workers': 0, 'threads': 1, 'max_failed_share': 0.05}
  cfg.optimizer = {
    'name': 'rmsprop',
    'learning_rate': 20.0,
    'warmup_steps': 30,
  }
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.1}
  cfg.train = {'ema_decay': 0.97, 'accumulate': 1, 'subclips': 1, 'boundary': 'exact'}
  cfg.precise_norm = {}  # batches of training clips that recompute statistics
  cfg.loop = {'total_steps': 350, 'log_every': 25, 'eval_every': 0, 'save_every': 100}
  cfg.checkpoints = {'keep': 2, 'best_metric': 'top1'}
  if variant == 'pair':
    half = {'frames': 6, 'stride': 2}
    cfg.members = {
      f'member{number}': {
        'stride': 2,
        'offset': number,
        'config': {'seed': number, 'clip': {'train': {**half}, 'eval': {**half}}},
      }
      for number in range(2)
    }
  return cfg
