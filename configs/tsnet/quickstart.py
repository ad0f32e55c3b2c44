"""A small two-stream network on moving gratings: how they lean tells half of the class.

Command:   movinet train --config=configs/tsnet/quickstart.py --workdir=runs/tsnet
Data:      four classes, written by the command itself: how a grating leans shows in single
           frames, how it moves only in neighboring ones, which the dense stream alone sees.
Hardware:  two CPU cores.
"""

import ml_collections

VIDEOS = {
  **{'name': 'motion', 'root': 'runs/quickstart/gratings', 'videos_per_class': 200},
  **{'frames': 32, 'size': 32},
  'classes': ('rising-left', 'rising-right', 'falling-left', 'falling-right'),
}
CLIP = {'frames': 32, 'size': 32, 'stride': 1}


def get_config() -> ml_collections.ConfigDict:
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.batch_size = 16
  cfg.eval_batch_size = 16
  cfg.init = ''

  def group(features, kernel, depth, stride):
    return {
      **{'features': features, 'expansion': 2.25, 'kernel': kernel},
      **{'depth': depth, 'stride': stride, 'attention': False},
    }

  flat, long = (1, 3, 3), (3, 3, 3)
  cfg.model = {
    'name': 'tsnet',
    'spec': {
      'sparse': (group(16, flat, 1, 2), group(24, flat, 1, 2), group(24, flat, 2, 1)),
      'dense': (group(8, long, 1, 2), group(8, long, 1, 2), group(8, long, 2, 1)),
      'fusions': ('conv', 'none', 'conv'),
      'stems': (8, 8),
      'hidden': 64,
      'attention_width': 8,
      'resolution': 32,
      'frame_stride': 1,
    },
  }
  cfg.data = {'train': {**VIDEOS, 'split': 'train'}, 'eval': {**VIDEOS, 'split': 'val'}}
  # No flip: left and right are classes.
  cfg.clip = {'train': {**CLIP, 'short_side': (32, 32), 'flip': False}, 'eval': CLIP}
  cfg.loader = {'workers': 0, 'threads': 2, 'max_failed_share': 0.05}
  cfg.optimizer = {'name': 'sgd', 'learning_rate': 6.4, 'warmup_steps': 20, 'momentum': 0.9}
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.0}
  cfg.train = {'ema_decay': 0.97, 'accumulate': 1, 'subclips': 1, 'boundary': 'exact'}
  cfg.precise_norm = {'batches': 20, 'batch_size': 16}  # moving averages lag behind
  cfg.loop = {'total_steps': 150, 'log_every': 25, 'eval_every': 0, 'save_every': 100}
  cfg.checkpoints = {'keep': 2, 'best_metric': 'top1'}
  return cfg
