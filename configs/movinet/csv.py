"""Train or fine-tune a MoViNet on videos that CSV files list.

Command:   movinet train --config=configs/movinet/csv.py --workdir=runs/mine \\
               --config.data.train.path=train.csv --config.data.eval.path=val.csv
           with rows of path,label. Paths begin where the CSV file is, or at
               --config.data.train.root=FOLDER --config.data.eval.root=FOLDER
Labels:    a name or a number. Several a video, dog;cat, need
           --config.loss.name=sigmoid --config.checkpoints.best_metric=mAP; the MoViNet
           paper smooths no labels then: --config.loss.label_smoothing=0.0
Otherwise: as folder.py, variants included: csv.py:a2-stream, …
Hardware:  one GPU; a CPU for a few hundred short videos.
Accuracy:  yours.
"""

import ml_collections

from configs.movinet import folder


def get_config(variant: str = 'a0-stream') -> ml_collections.ConfigDict:
  cfg = folder.get_config(variant)
  cfg.data = {
    'train': {'name': 'csv', 'path': 'train.csv'},
    'eval': {'name': 'csv', 'path': 'val.csv'},
  }
  return cfg
