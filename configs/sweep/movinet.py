"""The search for MoViNet's scaling coefficients on Kinetics-600.

Paper:     MoViNets, https://arxiv.org/abs/2103.11511, supplement A.1.
Command:   movinet build-data kinetics --version 600 …      (see docs/data.md)
           movinet sweep --config=configs/sweep/movinet.py --workdir=runs/phi \\
               --storage=postgresql://USER@HOST/DB        (on every machine)
           movinet sweep --workdir=runs/phi --phi=2       (what was found, at φ = 2)
Pictures:  trials take up to 503 pixels (a resolution factor of 1.4 at φ = 2): build without
           --short-side.
Variants:  '' searches; 'published' has the paper's coefficients and nothing to search:
           movinet sweep --config=configs/sweep/movinet.py:published --phi=2
Hardware:  a network of 10 epochs is one trial, on one device; machines may join and leave.
Result:    published: depth 1.36, width 1.18, resolution 1.16, frame rate 1.24. Not yet
           reproduced here.

From the supplement: the grid of coefficients, a product of 4 at a base of 300 million
multiply-adds a frame, three networks of each scaled space, 10 epochs, the mean of the five
best. The base's networks have 381 million on average; the published coefficients multiply
300 million by 3.8, and 381 by 3.0. Inferred: how many combinations are tried, the tolerance
of the product, that the networks are scored on a held-out part of the training split as in
the search itself, and training the best again at φ = 2.
"""

import ml_collections

CLIPS, EPOCHS, BATCH = 366_000, 10, 256
PUBLISHED = {'depth': 1.36, 'width': 1.18, 'resolution': 1.16, 'rate': 1.24}


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  if variant not in ('', 'published'):
    raise ValueError(f"no variant {variant!r}; there are '' and 'published'")
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.study = 'phi'
  cfg.coefficients = PUBLISHED if variant else None  # those to use, without a search
  cfg.algorithm = {
    'name': 'scale',
    'draws': 60,  # combinations of coefficients
    'top': 5,
    'recheck': 3,
  }
  cfg.space = {
    'name': 'scaling',
    'frame_macs': 300e6,
    'tolerance': 0.1,
    'samples': 3,
    'phis': (1.0, 2.0),  # the search's own, and where its best are trained again
    'include': {'published': PUBLISHED},
  }
  cfg.train_with = 'configs/movinet/kinetics600.py:a2'
  steps = round(EPOCHS * CLIPS * 0.9 / BATCH)
  cfg.recipe = {
    'batch_size': BATCH,
    # Strides of the scaled spaces are no whole frames: all networks see clips by time.
    'clip': {'train': {'fps': 5.0}, 'eval': {'fps': 5.0}},
    'optimizer': {'warmup_steps': steps // 40},
    'loop': {'total_steps': steps, 'eval_every': 0},
    'checkpoints': {'keep': 1},
  }
  cfg.data = {'train': {
    'name': 'tfds',
    'directory': 'data/k600/kinetics/600/1.0.0',
    'split': 'train',
  }}  # fmt: skip
  cfg.held_out = 0.1  # of the training split: what networks are scored on
  cfg.fitness = ('top1',)
  cfg.pruning = {}  # early stops: see nas.trials.pruning
  cfg.trial_secs = 0  # of one trial, at most; 0: as long as it takes
  return cfg
