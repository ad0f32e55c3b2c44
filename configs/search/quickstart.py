"""A search in minutes on a laptop: small MoViNet streams on moving textures.

Command:   make quickstart, or movinet search --config=configs/search/quickstart.py \\
               --workdir=runs/search --config.data.train.root=VIDEOS
Data:      four classes of motion; single frames of all classes look alike, so the label
           can only be read by kernels that see time.
Space:     three blocks of one or two layers, three kernels, two expansions, two widths.
Hardware:  two CPU cores.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.candidates = 8  # architectures a step; batches are dealt out to them
  cfg.batch_size = 32
  cfg.policy_batch_size = 64
  cfg.policy_share = 0.3  # of the training videos, held out for the policy
  cfg.train_with = 'configs/movinet/quickstart.py'
  cfg.space = {
    'stem': 16,
    'widths': (16, 32, 48),
    'strides': (1, 2, 2),
    'depth': 2,
    'project': 96,
    'kernels': ((1, 3, 3), (3, 3, 3), (5, 3, 3)),
    'expansions': (2.0, 3.0),
    'multipliers': (1.0, 1.5),
    'stem_multipliers': (1.0,),
    'head': 128,
    'frames': 12,
    'resolution': 32,
    'frame_stride': 1,
    'conv': '2plus1d',
    'se_kind': '2plus3d',
    'causal': True,
    'activation': 'hard_swish',
    'gate': 'hard_sigmoid',
    'head_activation': 'hard_swish',
  }
  cfg.supernet = {'dtype': 'float32', 'remat': True}
  cfg.data = {'train': {'name': 'folder', 'root': 'runs/quickstart/videos', 'split': 'train'}}
  cfg.clip = {
    # No flip: left and right are classes.
    'frames': 12,
    'size': 24,
    'stride': 1,
    'area': (0.6, 1.0),
    'aspect': (0.9, 1.1),
    'flip': False,
  }
  cfg.loader = {'workers': 0, 'threads': 2, 'max_failed_share': 0.05}
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.1}
  cfg.search = {
    'target': 23e6,  # multiply-adds of a clip of 12 x 32²
    'beta': -0.5,
    'reward': 'absolute',
    'learning_rate': 0.1,
    'warmup': 0.025,
    'policy_rate': 0.06,
    'subclips': 1,
    'boundary': 'exact',
  }
  cfg.optimizer = {'name': 'sgd', 'momentum': 0.9, 'clip_norm': 1.0}
  cfg.loop = {'total_steps': 300, 'log_every': 10, 'save_every': 50}
  cfg.checkpoints = {'keep': 2}
  cfg.finalists = {'neighbours': 16, 'control': 16, 'band': 0.05, 'batches': 15}
  return cfg
