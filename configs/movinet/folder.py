"""Train or fine-tune a MoViNet on your own videos.

Command:   movinet train --config=configs/movinet/folder.py --workdir=runs/mine \\
               --config.data.train.root=VIDEOS --config.data.eval.root=VIDEOS
           with VIDEOS/train/CLASS/*.mp4 and VIDEOS/val/CLASS/*.mp4.
Variants:  folder.py:a0-stream (default), or any other MoViNet: folder.py:a2-stream, …
           folder.py:a0-pair-stream, or any aN-pair-stream: an ensemble of two of them, each at
           half the frame rate, the second one frame later.
Fine-tune: --config.init=PATH of a TensorFlow checkpoint ('…/ckpt-1'), an .npz or another
           workdir; --config.train.freeze=backbone trains the classifier alone.
Hardware:  one GPU; a CPU for a few hundred short videos.
Accuracy:  yours.
"""

import ml_collections

PAIR = '-pair-stream'


def get_config(variant: str = 'a0-stream') -> ml_collections.ConfigDict:
  if variant.endswith(PAIR):
    return make_pair(variant.removesuffix(PAIR) + '-stream')
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.batch_size = 8
  cfg.eval_batch_size = 8
  cfg.init = ''
  cfg.model = {
    'name': f'movinet/{variant}',
    'dropout': 0.2,
    'stochastic_depth': 0.2,
    'dtype': 'float32',
    'remat': False,
  }
  cfg.data = {
    'train': {'name': 'folder', 'root': 'videos', 'split': 'train'},
    'eval': {'name': 'folder', 'root': 'videos', 'split': 'val'},
  }
  cfg.clip = {
    # 5 frames a second whatever the files' own rate, 16 of them.
    'train': {
      'frames': 16,
      'fps': 5.0,
      'size': 172,
      'area': (0.25, 1.0),
      'aspect': (0.75, 1.333),
      'flip': True,
      'colour': 0.2,
    },
    'eval': {'frames': 16, 'fps': 5.0, 'size': 172, 'short_side': 192},
  }
  cfg.loader = {'workers': 2, 'threads': 1, 'max_failed_share': 0.05}
  cfg.mesh = {'time': 1, 'space': 1}  # devices that share a clip; see docs/scaling.md
  cfg.optimizer = {
    'name': 'adamw',
    'learning_rate': 0.064,  # 5e-4 at 8 clips
    'warmup_steps': 100,
    'weight_decay': 0.01,
  }
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.1}
  cfg.train = {
    'ema_decay': 0.99,
    'accumulate': 1,
    'subclips': 1,
    'boundary': 'exact',
    'freeze': 'none',
  }
  cfg.loop = {
    'total_steps': 2000,
    'log_every': 20,
    'eval_every': 500,
    'save_every': 250,
  }
  cfg.checkpoints = {'keep': 3, 'best_metric': 'top1'}
  return cfg


def make_pair(variant: str) -> ml_collections.ConfigDict:
  """Two members of one variant at half the frame rate."""
  cfg = get_config(variant)
  half = {'frames': cfg.clip.eval.frames // 2, 'fps': cfg.clip.eval.fps / 2}
  cfg.members = {
    f'member{number}': {
      'stride': 2,
      'offset': number,
      'config': {'seed': number, 'clip': {'train': {**half}, 'eval': {**half}}},
    }
    for number in range(2)
  }
  return cfg
