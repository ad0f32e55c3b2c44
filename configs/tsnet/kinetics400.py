"""Auto-TSNets and Manual-TSNets on Kinetics-400, trained from scratch, and as causal streams.

Paper:     Searching for Two-Stream Models in Multivariate Space for Video Recognition, ICCV
           2021, section 5 and Tables 3 to 8 and 10. Streams are this project's own: no
           published numbers. Auto-TSNets are reconstructed, see docs/networks.md.
Command:   movinet build-data kinetics --version 400 --annotations csv --videos videos \\
               --out data/k400 --short-side 446     (see docs/data.md)
           movinet train --config=configs/tsnet/kinetics400.py:auto-s --workdir=runs/auto-s
           movinet evaluate --checkpoint=runs/auto-s --mode=multiclip --clips=10 \\
               --batch-size=8       (10-Center: short side 182, one square of 160²)
           movinet evaluate --checkpoint=runs/auto-s --mode=multiclip --clips=10 \\
               --crops=3 --batch-size=8       (10-LeftCenterRight: three squares of 182²)
Variants:  those of the tables below, each also as -stream, such as kinetics400.py:auto-s-stream.
Pictures:  the least --short-side to build with, in pixels: 228, of auto-m 320, of auto-l 446.
           More does no harm, less enlarges pictures and is warned of.
Hardware:  256 clips a step: 4 to 32 accelerators. 281,250 steps are 300 epochs of 240,000
           videos.
Accuracy:  top-1 %, published by the paper; not reproduced here.

           10-Center                                        table   top-1
           manual-85                                        4       72.8
           manual-70                                        4, 7, 8 73.2
           manual-55                                        4       72.4
           manual-70-sparse     the sparse stream alone     6       70.2
           manual-70-fusion0    no fusion                   7       70.7
           manual-70-fusion5    as manual-70                7       73.2
           manual-70-fusion10                               7       71.2
           manual-70-fusion-searched                        7       73.7
           manual-70-attention2                             8       72.7
           manual-70-attention4                             8       73.2
           manual-70-attention6                             8       73.3
           manual-70-attention-searched                     8       73.6
           auto-s-sparse        the sparse stream alone     5, 6    70.8
           auto-s-plain         without attention           5       74.1
           auto-s                                           5       74.6

           10-LeftCenterRight                               table   top-1
           auto-s-plain                                     3       74.6
           auto-s                                           3, 10   75.4
           auto-m-plain                                     3       76.6
           auto-m                                           3, 10   77.3
           auto-l-plain                                     3       78.3
           auto-l                                           3, 10   78.9

The paper says: from scratch, 300 epochs, SGD with a rate of 0.4 that falls by a cosine, 32
frames of which every eighth is sparse, short sides of 182 to 228 and squares of 160². The rest
is inferred. Batch: 256 clips, for which X3D's rate would be 0.4. Warm-up (34 epochs), weight
decay, dropout, norms over 8 clips, centred pixels and mean probabilities: X3D's. Every second
frame of 30 fps video: SlowFast 4x16's. Sizes in training of auto-m and auto-l: those of X3D-M
and -L, whose tests have the printed 256² and 356².
"""

import ml_collections

# Size and short sides in training, by the first part of a variant's name that is here.
SIZES = {
  'manual': (160, (182, 228)),
  'auto-s': (160, (182, 228)),
  'auto-m': (224, (256, 320)),
  'auto-l': (312, (356, 446)),
}
# Columns: top-1 % of 10-Center and of 10-LeftCenterRight, None where it is not printed.
TABLE = {
  'manual-85': (72.8, None),
  'manual-70': (73.2, None),
  'manual-55': (72.4, None),
  'manual-70-sparse': (70.2, None),
  'manual-70-fusion0': (70.7, None),
  'manual-70-fusion5': (73.2, None),
  'manual-70-fusion10': (71.2, None),
  'manual-70-fusion-searched': (73.7, None),
  'manual-70-attention2': (72.7, None),
  'manual-70-attention4': (73.2, None),
  'manual-70-attention6': (73.3, None),
  'manual-70-attention-searched': (73.6, None),
  'auto-s-sparse': (70.8, None),
  'auto-s-plain': (74.1, 74.6),
  'auto-s': (74.6, 75.4),
  'auto-m-plain': (None, 76.6),
  'auto-m': (None, 77.3),
  'auto-l-plain': (None, 78.3),
  'auto-l': (None, 78.9),
}


def get_config(variant: str = 'auto-s') -> ml_collections.ConfigDict:
  if variant.removesuffix('-stream') not in TABLE:
    raise ValueError(f'no variant {variant!r}; there are {", ".join(TABLE)}, each also as -stream')
  size, sides = next(row for name, row in SIZES.items() if variant.startswith(name))
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.batch_size = 256  # clips a step, over all devices; inferred
  cfg.eval_batch_size = 64
  cfg.init = ''  # begin from: a workdir
  cfg.model = {
    'name': f'tsnet/{variant}',
    'num_classes': 400,
    'dropout': 0.5,
    'stochastic_depth': 0.0,
    'norm_group': 8,  # clips that share batch statistics
    'average': 'probabilities',
    'mean': 0.45,
    'deviation': 0.225,
    'dtype': 'float32',
    'remat': False,
  }
  directory = 'data/k400/kinetics/400/1.0.0'  # what `movinet build-data` wrote
  cfg.data = {
    'train': {'name': 'tfds', 'directory': directory, 'split': 'train'},
    'eval': {'name': 'tfds', 'directory': directory, 'split': 'validation'},
  }
  both = {'frames': 32, 'fps': 15.0, 'size': size}
  cfg.clip = {
    'train': {**both, 'short_side': sides, 'flip': True},
    # While training one view. The paper's tests see ten clips, see the commands above.
    'eval': {**both, 'short_side': sides[0], 'clips': 1, 'crops': 1},
  }
  cfg.loader = {'workers': 16, 'threads': 1, 'max_failed_share': 0.05}
  cfg.mesh = {'time': 1, 'space': 1}  # devices that share a clip; see docs/scaling.md
  cfg.optimizer = {
    'name': 'sgd',
    'learning_rate': 1.6,  # for 1024 clips; scaled by batch_size: 0.4 for 256
    'warmup_steps': 32_000,
    'momentum': 0.9,
    'clip_norm': None,
    'weight_decay': 5e-5,
  }
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.0}
  cfg.train = {
    'ema_decay': 0.0,  # the weights themselves
    'accumulate': 1,
    'subclips': 1,  # parts that a clip is run in, for streams; see docs/training.md
    'boundary': 'exact',
    'freeze': 'none',
  }
  cfg.precise_norm = {'batches': 200, 'batch_size': 64}
  cfg.loop = {
    'total_steps': 281_250,
    'log_every': 100,
    'eval_every': 9375,  # 10 epochs
    'save_every': 1000,
  }
  cfg.checkpoints = {'keep': 3, 'best_metric': 'top1'}
  return cfg
