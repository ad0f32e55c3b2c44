"""Training and searching on the device that is here: the tables of docs/performance.md.

python benchmarks/performance.py                 all of it; long on a CPU
python benchmarks/performance.py runs            the quickstart's training and search, as
                                                 commands, in float32 and in bfloat16
python benchmarks/performance.py steps           steps of the published configs, with the
                                                 forms of depthwise convolution in turn
python benchmarks/performance.py steps --clips 32 --forms native --cases a0

The convolution by itself: benchmarks/depthwise.py.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from launch import devices
from launch.main import use_huge_pages

if __name__ == '__main__':
  use_huge_pages()  # as the command does, which starts anew: so before all else

from movinet_jax.data import motion
from movinet_jax.names import check_name, find

FORMS = ('shifted', 'native')
TYPES = ('float32', 'bfloat16')


class Run(NamedTuple):
  """A verb of the quickstart, the sections that read videos, and which has the type."""

  verb: str
  config: str
  reads: tuple[str, ...]
  typed: str


RUNS = {
  'train': Run('train', 'configs/movinet/quickstart.py', ('train', 'eval'), 'model'),
  'search': Run('search', 'configs/search/quickstart.py', ('train',), 'supernet'),
}


class Case(NamedTuple):
  """A command whose step is timed, the section that takes `form`, and its changes."""

  command: tuple[str, ...]
  formed: str = 'model'
  options: tuple[str, ...] = ()


TRAIN = 'configs/movinet/kinetics600.py'
CASES = {
  'a0': Case(('train', f'--config={TRAIN}:a0')),
  'a2': Case(('train', f'--config={TRAIN}:a2')),
  'a2-stream in 5 sub-clips': Case(
    ('train', f'--config={TRAIN}:a2-stream'),
    options=('--config.train.subclips=5', '--config.train.boundary=truncated'),
  ),
  'search in the space of a2': Case(
    ('search', '--config=configs/search/movinet.py:a2'), formed='supernet'
  ),
}


def measure_runs(arguments) -> Iterator[dict]:
  """`movinet train` and `movinet search` of the quickstart, each in a process."""
  with tempfile.TemporaryDirectory() as folder:
    videos = f'{folder}/videos'
    motion.write_motion(videos, videos_per_class=100, size=40, seed=0)
    for name in arguments.runs:
      run = find(RUNS, name, 'run')
      for dtype in TYPES:
        found = _measure_run(run, dtype, videos, f'{folder}/{name}-{dtype}')
        yield {'run': f'movinet {name}, quickstart', 'dtype': dtype, **found}


def _measure_run(run: Run, dtype: str, videos: str, workdir: str) -> dict:
  command = [
    *(sys.executable, '-m', 'launch.main', run.verb, f'--config={run.config}'),
    *(f'--workdir={workdir}', f'--config.{run.typed}.dtype={dtype}'),
    *(f'--config.data.{section}.root={videos}' for section in run.reads),
  ]
  began = time.perf_counter()
  subprocess.run(command, check=True, stdout=sys.stderr)
  secs = time.perf_counter() - began
  lines = Path(workdir, 'metrics.jsonl').read_text().splitlines()
  rows = [row for row in map(json.loads, lines) if 'examples_per_sec' in row]
  rows = rows[1:]  # the first has waited for the compiler
  peaks = [row['device_peak_mb'] for row in rows if 'device_peak_mb' in row]
  return {
    'clips_a_sec': statistics.median(row['examples_per_sec'] for row in rows),
    'input_wait_share': statistics.median(row['input_wait_share'] for row in rows),
    'device_mb': max(peaks) if peaks else None,
    'last_loss': rows[-1]['loss'],
    'whole_secs': secs,
  }


def measure_steps(arguments) -> Iterator[dict]:
  """Steps on empty clips, in the config's own type; needs no data."""
  # Late: what runs measures is in other processes, whose device this one must not hold.
  import jax

  from launch.pods.preflight.program import compile_step, make_program, time_step
  from launch.runs.kinds import RUNS
  from launch.verbs.preflight import read_command

  jax.config.update('jax_enable_compilation_cache', False)
  here = jax.devices()[:1]
  clips = arguments.clips or (1 if here[0].platform == 'cpu' else 32)
  for name in arguments.cases or CASES:
    check_name(name, CASES, 'case')
    case = CASES[name]
    for form in arguments.forms:
      words = (*case.command, *case.options, f'--config.{case.formed}.form={form}')
      command = read_command(words)
      config = {**command.config, 'batch_size': clips}
      if command.verb == 'search':
        config |= {'policy_batch_size': clips, 'candidates': 1}
      run = RUNS[command.verb].resolve(config, num_classes=600, devices=here)
      whole = make_program(run)
      found, executable = compile_step(whole)
      row = {'step': name, 'form': form, 'dtype': config[case.formed]['dtype']}
      row |= {'clips': whole.read, 'compile_secs': found.compile_secs}
      if executable is None:
        yield {**row, 'refused': found.refusal}
        continue
      secs = time_step(executable, whole)
      yield {
        **row,
        'step_secs': secs,
        'clips_a_sec': whole.read / secs,
        'device_mb': found.memory.total / 1e6,
      }
      del executable  # and with it the memory of its code


PARTS = {'runs': measure_runs, 'steps': measure_steps}


def print_table(rows: Sequence[dict]):
  """In Markdown, a column for each key of the first row."""
  if not rows:
    return
  columns = list(rows[0])
  print('\n| ' + ' | '.join(name.replace('_', ' ') for name in columns) + ' |')
  print('| --- ' * len(columns) + '|')
  for row in rows:
    print('| ' + ' | '.join(_describe(row.get(name)) for name in columns) + ' |')
  print(flush=True)


def _describe(value) -> str:
  if isinstance(value, float):
    return f'{value:,.3g}' if abs(value) < 1000 else f'{value:,.0f}'
  return 'not known' if value is None else str(value)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('parts', nargs='*', metavar='PART', help=', '.join(PARTS))
  parser.add_argument('--runs', nargs='+', default=list(RUNS), help=', '.join(RUNS))
  parser.add_argument('--cases', nargs='+', help=f'steps of {", ".join(CASES)}')
  parser.add_argument('--forms', nargs='+', default=FORMS, help=', '.join(FORMS))
  parser.add_argument('--clips', type=int, help='a step; default: 32, on a CPU 1')
  arguments = parser.parse_args()
  devices.quiet_libtpu()
  # Under PYTHONPATH, the commands that are measured are those of this folder.
  os.environ.setdefault('PYTHONPATH', os.getcwd())
  for part in arguments.parts or PARTS:
    check_name(part, PARTS, 'part')
    rows = []
    for row in PARTS[part](arguments):
      print(json.dumps(row), file=sys.stderr, flush=True)
      rows.append(row)
    print_table(rows)
  from timing import describe_machine  # late, as above

  print(json.dumps(describe_machine()))


if __name__ == '__main__':
  main()
