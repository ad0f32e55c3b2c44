"""Three steps of the planted one-shot algorithm on a small MoViNet space.

Command:   movinet search --config=search.py --workdir=run
Hardware:  any.
"""

from tests.fixtures.workdirs import small


def get_config():
  cfg = small.get_config()
  cfg.search.algorithm = 'drift'
  for key in ('policy_rate',):
    del cfg.search[key]
  cfg.loop.update(total_steps=3, log_every=1, save_every=2)
  cfg.data.train.name = 'planted'
  cfg.train_with = 'train.py'
  return cfg
