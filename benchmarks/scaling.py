"""Weak scaling by the compiler: the tables of docs/scaling.md, for TPUs that are not here.

python benchmarks/scaling.py                     every case for 1, 16, 64 and 256 chips
python benchmarks/scaling.py a2 search-a2        only these
python benchmarks/scaling.py a2 --chips 1 16     only of so many

Every chip gets the same number of clips, however many there are. A program takes minutes to
an hour to compile, so each is added to runs/scaling.jsonl (--out) as it is done, and a
program that is there already is not compiled again. Prints the tables from it.
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax

from launch.pods.preflight.machine import find_devices
from launch.pods.preflight.program import compile_step, make_program
from launch.pods.topology import find_topology
from launch.runs.kinds import RUNS
from launch.verbs.preflight import read_command
from movinet_jax.names import check_name

TOPOLOGIES = {1: 'v5e:1x1', 16: 'v5e:4x4', 64: 'v5e:8x8', 256: 'v5e:16x16'}
CLASSES = 600


class Case(NamedTuple):
  """A command whose chips get so many clips each, the policy of a search its own."""

  title: str
  command: tuple[str, ...]
  clips: int
  policy_clips: int = 0
  space: int = 1  # chips that a frame's rows are cut over


A2 = 'configs/movinet/kinetics600.py:a2'
A5 = 'configs/movinet/kinetics600.py:a5-stream'
LONG = (
  *('--config.train.subclips=4', '--config.train.boundary=truncated'),
  '--config.model.remat=True',
)
CASES = {
  'a2': Case(
    'A2 training: 50 frames of 224², 4 clips a chip',
    ('train', f'--config={A2}'),
    clips=4,
  ),
  'a5-stream': Case(
    'A5-stream training: 32 frames of 320² in 4 truncated sub-clips, remat; 4 clips a chip',
    ('train', f'--config={A5}', *LONG),
    clips=4,
  ),
  'a5-stream-space': Case(
    'A5-stream training, the same, but 1 clip over 2 chips, each of which has half of '
    'the rows (mesh.space=2)',
    ('train', f'--config={A5}', *LONG),
    clips=1,
    space=2,
  ),
  'search-a2': Case(
    'Search in the space of A2: 16 frames of 224², a candidate a chip, with 8 clips to '
    'learn from and 32 to be scored on',
    ('search', '--config=configs/search/movinet.py:a2'),
    clips=8,
    policy_clips=32,
  ),
}


def measure(name: str, chips: int) -> dict:
  """Compiles a case for so many chips."""
  case, topology = CASES[name], find_topology(TOPOLOGIES[chips])
  command = read_command(case.command)
  config, devices = share(command.config, case, chips), find_devices(topology)
  run = RUNS[command.verb].resolve(config, num_classes=CLASSES, devices=devices)
  whole = make_program(run)
  began = time.process_time()
  found, _ = compile_step(whole)
  return {
    'case': name,
    'chips': chips,
    'clips': whole.clips,
    'weights_bytes': sum(4 * x.size for x in jax.tree.leaves(whole.state.params)),
    'cpu_secs': round(time.process_time() - began),
    'date': time.strftime('%Y-%m-%d'),
    'jax': jax.__version__,
    **dataclasses.asdict(found),
  }


def share(cfg: Mapping, case: Case, chips: int) -> dict:
  """A config for so many chips, of which each has the same number of clips."""
  shares = chips // case.space
  changed = {**cfg, 'batch_size': case.clips * shares}
  if case.policy_clips:
    changed['policy_batch_size'] = case.policy_clips * shares
    changed['candidates'] = shares
  else:
    changed['mesh'] = {'space': case.space}
  return changed


def read_rows(path: Path) -> dict[tuple[str, int], dict]:
  """What is compiled already, by case and chips."""
  if not path.exists():
    return {}
  rows = map(json.loads, path.read_text().splitlines())
  return {(row['case'], row['chips']): row for row in rows}


def print_tables(rows: Mapping[tuple[str, int], Mapping]):
  """A table in Markdown for each case, and a row in it for each number of chips."""
  for name, case in CASES.items():
    mine = sorted((row for row in rows.values() if row['case'] == name), key=_chips)
    if not mine:
      continue
    print(f'{case.title} (weights: {mine[0]["weights_bytes"] / 1e6:.1f} MB).\n')
    print(
      '| chips | clips a step | arguments, temporaries, code of a chip | between chips, '
      'a step | estimate | compiled in | date |'
    )
    print('| --- ' * 7 + '|')
    for row in mine:
      print(f'| {row["chips"]} | {row["clips"]} | {" | ".join(_describe(row))} |')
    print()


def _chips(row) -> int:
  return row['chips']


def _describe(row) -> list[str]:
  memory, exchanged = row['memory'], row['exchanged_bytes']
  if memory:
    sizes = [memory[key] / 2**20 for key in ('arguments', 'temporaries', 'code')]
    said = ', '.join(f'{size:,.0f}' for size in sizes) + ' MiB'
  else:
    said = f'does not fit: {row["refusal"]}'
  moved = [f'{kind} {size / 1e6:,.2f} MB' for kind, size in exchanged.items()]
  secs = row['estimate_secs']
  return [
    said,
    ', '.join(moved) or 'nothing',
    f'{1e3 * secs:,.1f} ms' if secs else 'none',
    f'{row["compile_secs"] / 60:.0f} min ({row["cpu_secs"] / 60:.0f} of one core)',
    row['date'],
  ]


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('cases', nargs='*', metavar='CASE', help=', '.join(CASES))
  parser.add_argument('--chips', type=int, nargs='+', default=list(TOPOLOGIES))
  parser.add_argument('--out', type=Path, default=Path('runs/scaling.jsonl'))
  arguments = parser.parse_args()
  for name in arguments.cases or CASES:
    check_name(name, CASES, 'case')
    for chips in arguments.chips:
      check_name(chips, TOPOLOGIES, 'number of chips')
      if chips % CASES[name].space or (name, chips) in read_rows(arguments.out):
        continue
      row = measure(name, chips)
      arguments.out.parent.mkdir(parents=True, exist_ok=True)
      with arguments.out.open('a') as file:
        file.write(json.dumps(row) + '\n')
  print_tables(read_rows(arguments.out))


if __name__ == '__main__':
  main()
