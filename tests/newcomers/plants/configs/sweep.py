"""Four trials of the planted algorithm on the planted space.

Command:   movinet sweep --config=sweep.py --workdir=run
Hardware:  any.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  cfg = ml_collections.ConfigDict()
  cfg.seed, cfg.study, cfg.held_out, cfg.fitness = 0, 'planted', 0.25, ('top1',)
  cfg.algorithm, cfg.space = {'name': 'in_order', 'budget': 4}, {'name': 'planted'}
  cfg.train_with = 'train.py'
  cfg.data = {'train': {'name': 'planted', 'root': 'videos', 'split': 'train'}}
  cfg.latency_repeats, cfg.workers = 0, 1
  return cfg
