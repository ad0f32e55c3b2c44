"""The smallest MoViNet-Stream that trains: what is tested is what becomes of a run.

Command:   python -m benchmarks.faults
Data:      the quickstart's, a few videos of each of four motions.
"""

import ml_collections

from configs.movinet import quickstart


def get_config() -> ml_collections.ConfigDict:
  cfg = quickstart.get_config()
  cfg.batch_size = cfg.eval_batch_size = 8
  cfg.model.spec.update(
    stem=8,
    blocks=(
      {
        'features': 8,
        'stride': 2,
        'layers': ({'kernel': (3, 3, 3), 'expand': 16},),
      },
    ),
    project=16,
    head=16,
    frames=4,
    resolution=16,
  )
  for section in cfg.clip.values():
    section.update(frames=4, size=16)
  cfg.optimizer.update(learning_rate=1.0, warmup_steps=2)
  cfg.loop = {'total_steps': 40, 'log_every': 1, 'eval_every': 0, 'save_every': 10}
  return cfg
