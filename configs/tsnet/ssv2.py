"""Auto-TSNets on Something-Something V2, trained from scratch, and as causal streams.

Paper:     Searching for Two-Stream Models in Multivariate Space for Video Recognition, ICCV
           2021, section 5.9 and Table 11. Auto-TSNets are reconstructed, see
           docs/networks.md.
Command:   movinet train --config=configs/tsnet/ssv2.py:auto-s --workdir=runs/auto-s-ssv2 \\
               --config.data.train.root=VIDEOS --config.data.eval.root=VIDEOS
           movinet evaluate --checkpoint=runs/auto-s-ssv2 --mode=multiclip --clips=10 \\
               --batch-size=8
Data:      there is no reader of its own: train.csv and validation.csv list the videos as
           NUMBER.webm,CLASS, classes from 0 to 173. Make them of the published JSON files,
           where VIDEOS is the folder of .webm files:

           import csv, json
           name = 'something-something-v2-{}.json'.format
           classes = json.load(open(name('labels')))
           for split in ('train', 'validation'):
             with open(f'{split}.csv', 'w') as file:
               for row in json.load(open(name(split))):
                 label = row['template'].replace('[', '').replace(']', '')
                 csv.writer(file).writerow((f'{row["id"]}.webm', classes[label]))

Variants:  auto-s and auto-m, each also as -stream, such as ssv2.py:auto-s-stream.
Hardware:  as kinetics400.py. 198,000 steps are 300 epochs of 169,000 videos.
Accuracy:  top-1 %, published by the paper; not reproduced here.

           variant   auto-s  auto-m
           top-1     62.3    63.6

The paper says that these networks are trained from scratch, and no more: all else is
kinetics400.py's, inferred. The videos are 12 frames a second, a few seconds long: a clip
has every frame of 32. Pictures are not flipped: directions tell classes apart. Views are not
printed. Its totals of 23.7 and 46.5 GFLOPs are nearest to ten clips of 160² and of 224², which
cost 24.3 and 46.4 GMACs here.
"""

import ml_collections

from configs.tsnet import kinetics400

TABLE = {'auto-s': 62.3, 'auto-m': 63.6}  # top-1 %


def get_config(variant: str = 'auto-s') -> ml_collections.ConfigDict:
  if variant.removesuffix('-stream') not in TABLE:
    raise ValueError(f'no variant {variant!r}; there are {", ".join(TABLE)}, each also as -stream')
  cfg = kinetics400.get_config(variant)
  cfg.model.num_classes = 174
  cfg.data = {
    'train': {'name': 'csv', 'path': 'train.csv'},
    'eval': {'name': 'csv', 'path': 'validation.csv'},
  }
  for clip in cfg.clip.values():
    clip.fps = 12.0
  cfg.clip.train.flip = False
  cfg.loop.total_steps = 198_000
  cfg.loop.eval_every = 6600  # 10 epochs
  return cfg
