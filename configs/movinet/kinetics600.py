"""MoViNets on Kinetics-600: the reference's training files, averaged weights from the paper.

Paper:     MoViNets, https://arxiv.org/abs/2103.11511, supplement B.1.
Yaml:      TensorFlow Model Garden, official/projects/movinet/configs/yaml: what trained the
           released weights. The two recipes differ; each value below says whose it is.
Command:   movinet build-data kinetics --version 600 --annotations csv --videos videos \\
               --out data/k600 --short-side 368     (see docs/data.md)
           movinet train --config=configs/movinet/kinetics600.py:a2 --workdir=…
Variants:  a0 … a5, t0, each also as -stream, such as kinetics600.py:a0-stream.
Ensembles: a6, a6-stream (A4 and A5), and for N = 0 … 5 and t0 aN-pair-stream: two aN-streams at
           half the frame rate, the second one frame later (paper, section 3.3). a7-stream is
           a5-pair-stream. The command trains all members, with --member=1 one of them.
Pictures:  the least --short-side to build with, in pixels. More does no harm, less enlarges
           pictures and is warned of.

           variant   t0     a0     a1     a2     a3     a4     a5
           pixels    176    192    192    256    288    320    368

Hardware:  1024 clips a step: a TPU v3-128 or so. 85,785 steps are 240 epochs. A2 and
           A5-stream were compiled for TPUs (docs/scaling.md), the others were not.
Accuracy:  single clip, top-1 %, published by the reference; not yet reproduced here.

           variant   a0     a1     a2     a3     a4     a5
           base      72.28  76.69  78.62  81.79  83.48  84.27
           stream    72.05  76.45  78.40  80.09  81.49  82.37

The paper trains on all its datasets with its recipe. Only Kinetics-600 has a config here; each
other dataset wants its own number of classes, total_steps for 240 epochs, and clip.
"""

import ml_collections

# Yaml, *_base and *_stream. Columns: frames and stride in training, stride jitter, frames in
# evaluation, size, short side in evaluation, dropout, AutoAugment. Of these the supplement's
# Tables 11 to 16 print stride, frames and size alone, one for training and evaluation.
TABLE = {
  't0': (25, 10, 0, 25, 160, 176, 0.2, False),
  't0-stream': (25, 10, 0, 25, 160, 176, 0.2, False),
  'a0': (50, 5, 1, 50, 172, 192, 0.2, True),
  'a0-stream': (50, 5, 0, 50, 172, 192, 0.2, False),
  'a1': (50, 5, 1, 50, 172, 192, 0.5, True),
  'a1-stream': (50, 5, 0, 50, 172, 192, 0.2, False),
  'a2': (50, 5, 1, 50, 224, 256, 0.5, True),
  'a2-stream': (50, 5, 0, 50, 224, 256, 0.5, False),
  'a3': (64, 2, 1, 120, 256, 288, 0.5, True),
  'a3-stream': (64, 2, 0, 120, 256, 288, 0.5, False),
  'a4': (32, 3, 1, 80, 290, 320, 0.5, True),
  'a4-stream': (32, 3, 1, 80, 290, 320, 0.5, True),
  'a5': (32, 2, 1, 120, 320, 368, 0.5, True),
  # The reference evaluates 115 frames, because 120 did not fit its TPU.
  'a5-stream': (32, 2, 1, 115, 320, 368, 0.5, True),
}


# Frames and stride of the video that an ensemble sees; of each member its variant and, of these
# frames, its stride and offset.
ENSEMBLES = {
  'a6': (240, 1, (('a4', 3, 0), ('a5', 2, 0))),
  'a6-stream': (240, 1, (('a4-stream', 3, 0), ('a5-stream', 2, 0))),
  **{
    f'{name}-pair-stream': (frames, stride, ((f'{name}-stream', 2, 0), (f'{name}-stream', 2, 1)))
    for name, frames, stride in (
      *(('t0', 25, 10), ('a0', 50, 5), ('a1', 50, 5), ('a2', 50, 5)),
      *(('a3', 120, 2), ('a4', 80, 3), ('a5', 120, 2)),
    )
  },
}
ENSEMBLES['a7-stream'] = ENSEMBLES['a5-pair-stream']


def get_config(variant: str = 'a0') -> ml_collections.ConfigDict:
  if variant in ENSEMBLES:
    return make_ensemble(variant)
  if variant not in TABLE:
    known = ', '.join([*TABLE, *ENSEMBLES])
    raise ValueError(f'no variant {variant!r}; there are {known}')
  frames, stride, jitter, eval_frames, size, side, dropout, policy = TABLE[variant]
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.batch_size = 1024  # clips a step, over all devices; paper and yaml
  cfg.eval_batch_size = 32 if variant.startswith('a5') else 64  # yaml
  cfg.init = ''  # begin from: a workdir, a TensorFlow checkpoint or an .npz
  cfg.model = {
    'name': f'movinet/{variant}',
    'num_classes': 600,
    'dropout': dropout,
    'stochastic_depth': 0.2,  # yaml
    'dtype': 'bfloat16',  # yaml
    'remat': False,
  }
  directory = 'data/k600/kinetics/600/1.0.0'  # what `movinet build-data` wrote
  cfg.data = {
    'train': {'name': 'tfds', 'directory': directory, 'split': 'train'},
    'eval': {'name': 'tfds', 'directory': directory, 'split': 'validation'},
  }
  cfg.clip = {
    'train': {
      'frames': frames,
      'stride': stride,
      'stride_jitter': jitter,
      'size': size,
      'area': (0.08, 1.0),  # yaml, as are aspect and flip
      'aspect': (0.5, 2.0),
      'flip': True,
      'autoaugment': policy,
    },
    'eval': {
      'frames': eval_frames,
      'stride': stride,
      'size': size,
      'short_side': side,
    },
  }
  cfg.loader = {'workers': 16, 'threads': 1, 'max_failed_share': 0.05}
  cfg.mesh = {'time': 1, 'space': 1}  # devices that share a clip; see docs/scaling.md
  cfg.optimizer = {
    'name': 'rmsprop',  # paper and yaml
    'learning_rate': 1.8,  # paper and yaml; for 1024 clips, scaled by batch_size
    'warmup_steps': 2145,  # yaml: 6 epochs. Paper: 5, which are 1,787 steps
    'decay': 0.9,  # yaml
    'momentum': 0.9,  # paper and yaml
    'epsilon': 1.0,  # yaml
    'clip_norm': 1.0,  # yaml
    'weight_decay': 3e-5,  # yaml
  }
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.1}  # paper and yaml
  cfg.train = {
    'ema_decay': 0.99,  # paper; the yaml averages no weights
    'accumulate': 1,  # micro-batches a step
    'subclips': 1,  # parts that a clip is run in, for streams; see docs/training.md
    'boundary': 'exact',  # or 'truncated'
    'freeze': 'none',  # or 'batch_norm', 'backbone'
  }
  cfg.loop = {
    'total_steps': 85_785,  # yaml: the 240 epochs of the paper
    'log_every': 100,
    'eval_every': 3574,  # 10 epochs
    'save_every': 1000,
  }
  cfg.checkpoints = {'keep': 3, 'best_metric': 'top1'}
  return cfg


def make_ensemble(variant: str) -> ml_collections.ConfigDict:
  """The config of the last member, and what each member changes of it."""
  frames, stride, members = ENSEMBLES[variant]
  cfg = get_config(members[-1][0])
  cfg.clip.eval.update(frames=frames, stride=stride)
  changes = {}
  for number, (name, step, offset) in enumerate(members):
    own = _change_rate(get_config(name), stride * step, -(-(frames - offset) // step))
    changes[f'member{number}'] = {
      'stride': step,
      'offset': offset,
      'config': {'seed': number, **_list_changes(own, cfg)},
    }
  cfg.members = changes
  return cfg


def _change_rate(cfg: ml_collections.ConfigDict, stride: int, eval_frames: int):
  """The config with clips that last as long as before, at another stride."""
  train = cfg.clip.train
  ratio = stride / train.stride
  train.update(
    frames=round(train.frames / ratio),
    stride=stride,
    stride_jitter=round(train.stride_jitter * ratio),
  )
  cfg.clip.eval.update(frames=eval_frames, stride=stride)
  return cfg


def _list_changes(cfg: ml_collections.ConfigDict, shared: ml_collections.ConfigDict) -> dict:
  """The keys of a config that differ from those of another, which has the same ones."""
  changes = {}
  for key, value in cfg.items():
    if isinstance(value, ml_collections.ConfigDict):
      value = _list_changes(value, shared[key]) or shared[key]
    if value != shared[key]:
      changes[key] = value
  return changes
