"""Peak memory of a live stream after 50 and after 5,000 frames.

python benchmarks/stream_memory.py    prints one JSON line
"""

import json
import resource

import jax
import numpy as np
from timing import describe_machine

import movinet_jax as mj
from movinet_jax.serve import Live

SIZE, MARKS = 96, (50, 500, 5000)


def main():
  model = mj.create('movinet/a0-stream')
  variables = mj.init(model, jax.random.key(0), (1, 1, SIZE, SIZE, 3))
  live = Live(model, variables, (SIZE, SIZE))
  frame = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
  peaks = {}
  for n in range(1, max(MARKS) + 1):
    live(frame)
    if n in MARKS:
      kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
      peaks[f'peak_mib_{n}_frames'] = round(kib / 1024, 1)
  print(json.dumps({'benchmark': 'stream_memory', **peaks, **describe_machine()}))


if __name__ == '__main__':
  main()
