"""Tiny Video Networks on Moments in Time: the paper's clips, a recipe of our own.

Paper:     Tiny Video Networks, https://arxiv.org/abs/1910.06961, sections 2 and 3 and
           appendix A. It tells the networks, their clips and the dropout, and that networks
           of the search are trained for 10,000 steps; not how the found ones are trained.
           Optimizer, crops and length here are inferred from what is usual.
Command:   movinet train --config=configs/tvn/moments.py:1 --workdir=runs/tvn-1 \\
               --config.data.train.root=MOMENTS --config.data.eval.root=MOMENTS
           with the data set as it is distributed, MOMENTS/training/CLASS/*.mp4 and
           MOMENTS/validation/CLASS/*.mp4; other folders of videos do as well.
Variants:  1, 2, 3, 4, m1, m2, 1-swish, and TVN-1 scaled: 1-2x-res, 1-4x-res, 1-2x-wide,
           1-4x-wide, 1-2x-deep, 1-4x-deep.
Charades:  long videos: --config.model.temporal_softmax=True --config.loss.name=sigmoid
           --config.checkpoints.best_metric=mAP
Hardware:  512 clips a step: some accelerators. 80,000 steps are about 50 epochs.
Accuracy:  top-1 %, published by the paper for networks whose cost it prints otherwise than
           its code has it (docs/networks.md); not reproduced here.

           variant   1     2     3     4     1-swish  m1     m2     1-4x-wide  1-4x-res
           top-1     23.1  24.2  25.4  27.8  24.8     21.95  21.96  24.2       24.1
"""

import ml_collections

# Columns: frames, stride (of 25 fps video) and size; appendix A.2, and the published code
# of the mobile networks.
TABLE = {
  '1': (2, 4, 224),
  '2': (2, 7, 256),
  '3': (8, 2, 160),
  '4': (8, 4, 128),
  'm1': (2, 1, 224),
  'm2': (2, 1, 224),
  '1-swish': (2, 4, 224),
  '1-2x-res': (2, 4, 448),
  '1-4x-res': (2, 4, 896),
  '1-2x-wide': (2, 4, 224),
  '1-4x-wide': (2, 4, 224),
  '1-2x-deep': (2, 4, 224),
  '1-4x-deep': (2, 4, 224),
}


def get_config(variant: str = '1') -> ml_collections.ConfigDict:
  if variant not in TABLE:
    raise ValueError(f'no variant {variant!r}; there are {", ".join(TABLE)}')
  frames, stride, size = TABLE[variant]
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.batch_size = 512  # clips a step, over all devices
  cfg.eval_batch_size = 64
  cfg.init = ''  # begin from: a workdir
  cfg.model = {
    'name': f'tvn/{variant}',
    'dropout': 0.5,
    'norm_group': None,
    'dtype': 'float32',
    'remat': False,
  }
  cfg.data = {
    'train': {'name': 'folder', 'root': 'videos', 'split': 'training'},
    'eval': {'name': 'folder', 'root': 'videos', 'split': 'validation'},
  }
  both = {'frames': frames, 'fps': 25 / stride, 'size': size}
  cfg.clip = {
    'train': {**both, 'area': (0.25, 1.0), 'aspect': (0.75, 1.333), 'flip': True},
    'eval': {**both, 'short_side': round(size * 8 / 7)},
  }
  cfg.loader = {'workers': 16, 'threads': 1, 'max_failed_share': 0.05}
  cfg.mesh = {'time': 1, 'space': 1}  # devices that share a clip; see docs/scaling.md
  cfg.optimizer = {
    'name': 'sgd',
    'learning_rate': 0.4,  # for 1024 clips; scaled by batch_size
    'warmup_steps': 2000,
    'momentum': 0.9,
    'clip_norm': 10.0,
    'weight_decay': 1e-4,
  }
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.0}
  cfg.train = {
    'ema_decay': 0.0,  # the weights themselves
    'accumulate': 1,
    'subclips': 1,  # these networks take whole clips
    'boundary': 'exact',
    'freeze': 'none',
  }
  cfg.loop = {
    'total_steps': 80_000,
    'log_every': 100,
    'eval_every': 4000,
    'save_every': 1000,
  }
  cfg.checkpoints = {'keep': 3, 'best_metric': 'top1'}
  return cfg
