"""Three steps of TuNAS on the planted space and its supernet.

Command:   movinet search --config=shared.py --workdir=run
Hardware:  any.
"""

from tests.fixtures.workdirs import small


def get_config():
  cfg = small.get_config()
  cfg.space = {'name': 'planted'}
  cfg.search.target = 60
  cfg.loop.update(total_steps=3, log_every=1, save_every=2)
  cfg.data.train.name = 'planted'
  cfg.train_with = 'train.py'
  return cfg
