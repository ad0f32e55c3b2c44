"""A study: the same search for several seeds, weights of cost and targets, one run each.

Command:   for i in $(seq 0 17); do
             movinet search --config=configs/search/study.py:$i --workdir=runs/study/$i
           done
Data:      as quickstart.py, whose search it repeats; another is one line below.
Hardware:  two CPU cores. All runs share one compiled program, for what differs between
           them are numbers that it is given; machines may take runs from the list at will.
"""

import itertools

import ml_collections

from configs.search import quickstart

SEEDS, BETAS, TARGETS = (0, 1, 2), (-0.1, -0.5, -1.0), (23e6, 30e6)
RUNS = tuple(itertools.product(TARGETS, BETAS, SEEDS))


def get_config(number: str = '0') -> ml_collections.ConfigDict:
  if not number.isdecimal() or int(number) >= len(RUNS):
    raise ValueError(f'no run {number!r}; there are 0 to {len(RUNS) - 1}')
  cfg = quickstart.get_config()
  cfg.search.target, cfg.search.beta, cfg.seed = RUNS[int(number)]
  return cfg
