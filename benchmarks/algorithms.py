"""REINFORCE and PARSEC on the quickstarts' spaces: as many steps, candidates and clips.

python benchmarks/algorithms.py                   all, over three seeds
python benchmarks/algorithms.py movinet parsec    one space and algorithm

Each search is what `movinet search` runs, on videos that are written first. All decisions are
searched at once but one: there always is a dense stream. Both algorithms have the reward of the
hinge. For PARSEC its weight, beta, is on relative accuracy (docs/search.md).

Prints a JSON line for each space and algorithm: of each seed the accuracy of the found network
with shared weights, on the held-out videos; its cost over the target; and what entropy is left,
beside that of the space, in nats.
"""

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

from launch.main import use_huge_pages

if __name__ == '__main__':
  use_huge_pages()  # as the command does, which starts anew: so before all else

from timing import describe_machine

from configs.search import quickstart, tsnet
from launch.runs import search
from movinet_jax.train import mesh, writers

STEPS, SEEDS, BETA = 150, (0, 1, 2), -0.5
# Each algorithm's rate is that of the quickstart which has it.
RATES = {'reinforce': 0.06, 'parsec': 0.1}
TEXTURES = {'name': 'motion', 'videos_per_class': 100, 'size': 40, 'split': 'train'}
SPACES = ('movinet', 'tsnet')


def main(names):
  which, algorithms = names[:1] or SPACES, names[1:] or list(RATES)
  if not set(which) <= set(SPACES) or not set(algorithms) <= set(RATES):
    raise SystemExit(f'wanted one of {", ".join(SPACES)}, and of {", ".join(RATES)}')
  with tempfile.TemporaryDirectory() as folder:
    for space in which:
      for algorithm in algorithms:
        row = compare(space, algorithm, Path(folder))
        print(json.dumps({**row, **describe_machine()}), flush=True)


def compare(space: str, algorithm: str, home: Path) -> dict:
  """Searches once for each seed, with one compiled step."""
  began, step, found = os.times().user, None, []
  for seed in SEEDS:
    resolved = search.resolve(make_config(space, algorithm, seed, home / space))
    step = step or mesh.shard_step(resolved.step, resolved.place)
    found.append(run(resolved, home / f'{space}-{algorithm}-{seed}', step))
  columns = {name: [row[name] for row in found] for name in found[0]}
  about = {'benchmark': 'algorithms', 'space': space, 'algorithm': algorithm, 'steps': STEPS}
  return {**about, **columns, 'user_secs': round(os.times().user - began)}


def make_config(space: str, algorithm: str, seed: int, videos: Path) -> dict:
  if space == 'movinet':
    cfg = quickstart.get_config()
    cfg.data.train = TEXTURES
  else:
    cfg = tsnet.get_config('quickstart')
    cfg.search.target = cfg.steps.step3_attention.search.target  # the last step's
    cfg.held = {'dense': 1}  # as in that step, there is a dense stream
    del cfg.steps
  cfg.data.train.root = str(videos)
  cfg.seed, cfg.candidates = seed, 4
  cfg.batch_size = cfg.policy_batch_size = 32
  cfg.loop.update(total_steps=STEPS, save_every=0)
  cfg.finalists.update(neighbours=2, control=2)
  given = {'algorithm': algorithm, 'policy_rate': RATES[algorithm]}
  cfg.search.update(reward='hinge', beta=BETA, **given)
  return cfg.to_dict()


def run(resolved: search.Search, home: Path, step) -> dict:
  with contextlib.redirect_stdout(sys.stderr):
    found = search.run(resolved, str(home), step)
  last = [row for row in writers.read_rows(home) if 'entropy_total' in row][-1]
  return {
    'accuracy': round(found['accuracy'], 3),
    'cost_ratio': round(found['cost'][resolved.aim.cost] / resolved.target, 3),
    'entropy_total': round(last['entropy_total'], 2),
    'entropy_bound': round(last['entropy_bound'], 2),
  }


if __name__ == '__main__':
  main(sys.argv[1:])
