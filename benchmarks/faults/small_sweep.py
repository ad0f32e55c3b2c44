"""Four tiny networks at random, two at a time: what is tested is what becomes of them.

Command:   python -m benchmarks.faults
Data:      the quickstart's, a few videos of each of four motions.
"""

import ml_collections

from configs.sweep import quickstart


def get_config() -> ml_collections.ConfigDict:
  cfg = quickstart.get_config('evolve')
  cfg.study = 'faults'
  cfg.algorithm = ml_collections.ConfigDict({'name': 'uniform', 'budget': 4})
  cfg.data.train.name = 'folder'
  cfg.held_out = 0.25
  cfg.latency_repeats = 0
  cfg.limits = {}
  cfg.space.update(
    resolution=(16,),
    frames=(2, 4),
    frame_stride=(1,),
    most_blocks=1,
    features=(16, 24),
    repeats=(1,),
    kernels=(2,),
    non_local=(0,),
  )
  cfg.recipe.batch_size = 8
  cfg.recipe.precise_norm = {'batches': 1, 'batch_size': 8}
  cfg.recipe.loop.update(total_steps=40, log_every=1, save_every=5)
  return cfg
