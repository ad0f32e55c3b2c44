"""Auto-TSNet's search on MiniKinetics-100: two streams, fusions and attention in three steps.

Paper:     Searching for Two-Stream Models in Multivariate Space for Video Recognition,
           ICCV 2021, sections 3 to 5.2; the search is PARSEC, https://arxiv.org/abs/1902.05116.
Command:   movinet build-data kinetics --version 400 …      (see docs/data.md)
           movinet search --config=configs/search/tsnet.py --workdir=runs/search-tsnet
           The same command resumes it; --step=step2_dense runs one step.
           movinet search --config=configs/search/tsnet.py:quickstart --workdir=runs/quick
           runs all three steps on video that it writes, in 2:44 on two CPU cores (2026-11-27).
Variants:  progressive   sparse stream, then dense stream and fusions, then attention
           one-step      all at once (Table 9)
           fusion        where Manual-TSNet-70 % is fused (Table 7)
           attention     where Manual-TSNet-70 % attends (Table 8)
           quickstart    a small space, progressive
Classes:   the command that a search prints trains on the same 100. Leave its
           --config.data.classes flags out to train on all 400, as the paper does.
Hardware:  16 accelerators, one architecture each a step; fewer take several each. On a GPU
           it did not compile: docs/performance.md says what to try.
Result:    not reproduced here. The paper has, with 400 classes and 10-center tests:

           step            target   found      top-1   searched for
           sparse stream   1.4 G    1.39 G     70.8    800 epochs, 2.3 days
           dense, fusion   2.0 G    2.05 G     74.1    400 epochs, 1.6 days
           attention       2.5 G    2.46 G     74.6    200 epochs, 0.9 days

           In three steps and all at once (Table 9; 10-LeftCenterRight tests of 30 views):

                           entropy         parameters   a view   top-1   searched for
           progressive     9.7, the mean   8.6 M        3.25 G   75.4    4.8 days
           one-step        18.9            8.9 M        3.41 G   72.8    6.5 days

           With Manual-TSNet-70 % (Tables 7 and 8), best by hand and searched: 73.2 and 73.7 for
           fusions, in 0.7 days; 73.3 and 73.6 for attention, in 0.9.

From the paper: the space, the three targets, epochs, jitter and crop, SGD with rate 0.4 and a
cosine, Adam with rate 0.025 and no decay for the distribution, weights by accuracy on held-out
videos. Inferred, because the paper does not say: batch sizes, weight decay, momentum, warm-up,
candidates a step, the share held out, the weight of the hinge, targets and epochs of fusion and
attention alone, and that the weights of what is held go on learning. The 100 classes are drawn
by a seed, since the paper's are not published.
"""

import ml_collections

from configs.tsnet.quickstart import VIDEOS as GRATINGS

CLASSES, VIDEOS = 100, 60_000  # of 400 classes with 240,000 training videos
BATCH, SHARE = 256, 0.1
SPARSE, DENSE = ('sparse/groups/*',), ('dense:1/groups/*', 'dense:1/fusion/*')
ATTENTION = ('sparse/attention/*', 'dense:1/attention/*')
# Name of a step: decisions, target, epochs (sections 5.2 and 5.5).
STEPS = {
  'step1_sparse': (SPARSE, 1.4e9, 800),
  'step2_dense': (DENSE, 2.0e9, 400),
  'step3_attention': (ATTENTION, 2.5e9, 200),
}
# Widths of Manual-TSNet-70 %, by stage; it has kernels of 3x3x3 and expansions of 2.25.
MANUAL = {
  **{'sparse': ((40,), (72,), (152,), (296,)), 'dense': ((8,), (16,), (24,), (40,))},
  **{'expansions': (2.25,), 'times': (3,), 'sizes': (3,), 'fusions': ('none', 'conv')},
  **{'stems': (40, 8), 'attention_width': 108},
}
VARIANTS = ('progressive', 'one-step', 'fusion', 'attention', 'quickstart')


def get_config(variant: str = 'progressive') -> ml_collections.ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'no variant {variant!r}; there are {", ".join(VARIANTS)}')
  cfg = _get_paper()
  if variant == 'progressive':
    cfg.steps = {
      name: _make_step(searched, target, _count_steps(epochs))
      for name, (searched, target, epochs) in STEPS.items()
    }
    cfg.steps.step2_dense.held = {'dense': 1}  # from then on there is a dense stream
  elif variant == 'one-step':
    cfg.searched, cfg.held = (*SPARSE, *DENSE, *ATTENTION), {'dense': 1}
    cfg.search.target = 2.5e9
    cfg.loop.total_steps = _count_steps(sum(epochs for *_, epochs in STEPS.values()))
  elif variant == 'fusion':
    cfg.held, cfg.searched = {'dense': 1}, ('dense:1/fusion/*',)
    cfg.space.update(MANUAL)
    cfg.search.target = 2.03e9
    cfg.loop.total_steps = _count_steps(400)
  elif variant == 'attention':
    cfg.searched = ATTENTION
    cfg.space.update(MANUAL)
    # Fusions +1 +1 +2 +1: 'conv' is choice 1.
    cfg.held = {'dense': 1, **{f'dense:1/fusion/{group}': 1 for group in (1, 3, 5, 7, 10)}}
    cfg.search.target = 2.5e9
    cfg.loop.total_steps = _count_steps(200)
  else:
    _shrink(cfg)
  return cfg


def _get_paper() -> ml_collections.ConfigDict:
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.candidates = 16  # architectures a step; batches are dealt out to them
  cfg.batch_size = BATCH
  cfg.policy_batch_size = BATCH
  cfg.policy_share = SHARE  # of the training split, held out for the distribution
  cfg.train_with = 'configs/tsnet/kinetics400.py:auto-s'
  cfg.space = {'name': 'tsnet', 'mean': 0.45, 'deviation': 0.225}
  cfg.supernet = {'dtype': 'bfloat16', 'remat': True}
  directory = 'data/k400/kinetics/400/1.0.0'  # what `movinet build-data` wrote
  cfg.data = {
    'train': {'name': 'tfds', 'directory': directory, 'split': 'train'},
    'classes': {'count': CLASSES, 'seed': 0},
  }
  cfg.clip = {'frames': 32, 'stride': 2, 'size': 160, 'short_side': (182, 228), 'flip': True}
  cfg.loader = {'workers': 16, 'threads': 1, 'max_failed_share': 0.05}
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.0}
  cfg.search = {
    'algorithm': 'parsec',
    'target': 1.4e9,
    'reward': 'hinge',
    'beta': -1.0,
    'learning_rate': 0.4,
    'warmup': 0.025,
    'weight_decay': 5e-5,
    'policy_rate': 0.025,
  }
  cfg.optimizer = {'name': 'sgd', 'momentum': 0.9, 'clip_norm': None}
  cfg.loop = {'total_steps': 0, 'log_every': 100, 'save_every': 1000}
  cfg.checkpoints = {'keep': 2}
  cfg.finalists = {'neighbours': 32, 'control': 32, 'band': 0.05, 'batches': 64}
  return cfg


def _make_step(searched, target: float, total_steps: int) -> dict:
  return {
    'searched': searched,
    'search': {'target': target},
    'loop': {'total_steps': total_steps},
  }


def _count_steps(epochs: int) -> int:
  return round(epochs * VIDEOS * (1 - SHARE) / BATCH)


def _shrink(cfg):
  """Three groups a stream, one place for attention, and clips of 32 x 32 pixels."""
  cfg.candidates, cfg.batch_size, cfg.policy_batch_size = 4, 32, 32
  cfg.policy_share = 0.3
  cfg.train_with = 'configs/tsnet/quickstart.py'
  cfg.space = {
    **{'name': 'tsnet', 'sparse': ((16, 24), (24, 40)), 'dense': ((8,), (8, 16))},
    **{'depths': ((1,), (1, 2)), 'expansions': (1.5, 2.25), 'times': (1, 3), 'sizes': (3, 5)},
    **{'fusions': ('none', 'sample', 'conv'), 'places': (1,), 'stems': (8, 8), 'hidden': 64},
    **{'attention_width': 8, 'resolution': 32, 'frame_stride': 1},
  }
  cfg.supernet.dtype = 'float32'
  cfg.data = {'train': {**GRATINGS, 'split': 'train'}}
  cfg.clip = {'frames': 32, 'stride': 1, 'size': 32, 'short_side': (32, 32), 'flip': False}
  cfg.loader = {'workers': 0, 'threads': 2, 'max_failed_share': 0.05}
  cfg.search.learning_rate = 0.005
  cfg.search.policy_rate = 0.1
  cfg.optimizer = {'name': 'adamw', 'clip_norm': 1.0}  # with which few steps are enough
  cfg.loop = {'total_steps': 0, 'log_every': 10, 'save_every': 50}
  cfg.finalists = {'neighbours': 8, 'control': 8, 'band': 0.1, 'batches': 8}
  cfg.steps = {
    'step1_sparse': _make_step(SPARSE, 2.5e6, 120),
    'step2_dense': {**_make_step(DENSE, 9e6, 120), 'held': {'dense': 1}},
    'step3_attention': _make_step(ATTENTION, 9.5e6, 60),
  }
