"""Two steps of the planted family on the planted dataset.

Command:   movinet train --config=train.py --workdir=run
Hardware:  any.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  cfg = ml_collections.ConfigDict()
  cfg.seed, cfg.batch_size, cfg.eval_batch_size = 0, 4, 4
  cfg.init = ''
  cfg.model = {'name': 'planted/one'}
  cfg.data = {
    split: {'name': 'planted', 'root': 'videos', 'split': folder}
    for split, folder in (('train', 'train'), ('eval', 'val'))
  }
  cfg.clip = {split: {'frames': 4, 'size': 16, 'stride': 1} for split in ('train', 'eval')}
  cfg.loader, cfg.loss = {}, {'name': 'softmax'}
  cfg.optimizer = {'name': 'sgd', 'learning_rate': 1.0}
  cfg.loop = {'total_steps': 2, 'log_every': 1}
  return cfg
