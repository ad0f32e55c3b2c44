"""The benchmark of whole networks: what it lists, what it survives, and that each part runs."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.movinet import kinetics600
from configs.x3d import kinetics400

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'benchmarks' / 'performance.py'
# What an image with JAX, Flax and Optax has not.
ABSENT = (
  *('av', 'optuna', 'tensorflow', 'tensorflow_datasets', 'grain', 'clu', 'ml_collections'),
  *('torch', 'movinets', 'sqlalchemy', 'orbax', 'matplotlib', 'PIL', 'tqdm'),
)


@pytest.fixture
def modules(monkeypatch):
  """Imports what lies beside the script as it does itself."""
  before = set(sys.modules)
  monkeypatch.syspath_prepend(str(SCRIPT.parent))
  yield importlib.import_module
  for name in set(sys.modules) - before:
    if str(getattr(sys.modules[name], '__file__', '')).startswith(str(SCRIPT.parent)):
      del sys.modules[name]


def run(tmp_path, arguments, customize):
  """Runs the script and its processes; each begins with `customize`."""
  (tmp_path / 'sitecustomize.py').write_text(customize)
  environment = {**os.environ, 'PYTHONPATH': str(tmp_path), 'JAX_PLATFORMS': 'cpu'}
  # The commands set it, in the process of another test too; a script imports what lies beside it.
  environment.pop('PYTHONSAFEPATH', None)
  # What runs is not to be fast here, only to run.
  environment['XLA_FLAGS'] = (
    '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
  )
  command = [sys.executable, str(SCRIPT), *arguments]
  return subprocess.run(
    command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200
  )


def read_rows(done):
  return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]


def test_steps_are_those_of_the_configs(modules):
  performance, programs = modules('performance'), modules('programs')
  for network, (_, frames, size) in performance.STEPS.items():
    family, variant = network.split('/')
    config = {'movinet': kinetics600, 'x3d': kinetics400}[family].get_config(variant)
    clip, optimizer = config.clip.train, config.optimizer.to_dict()
    assert (clip.frames, clip.size) == (frames, size)
    recipe = programs.RECIPES[family]
    assert recipe == {key: optimizer[key] for key in recipe}
    assert programs.SMOOTHING[family] == config.loss.label_smoothing


_SCARCE = """
import sys, types

class Case:
  clips = 8

  def __init__(self, **options):
    pass

  def is_on_cpu(self):
    return False

  def describe_device(self):
    return {}

  def prepare(self, clips):
    if clips == 8:
      raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes')

    def measure():
      if clips == 4:
        raise RuntimeError('CUDA out of memory. Tried to allocate 4 bytes')
      yield {'clips': clips, 'step': 'x3d/m', 'form': 'auto', 'clips_a_sec': 3.0}

    return types.SimpleNamespace(measure=measure, spans={}, about={})

programs = types.ModuleType('programs')
programs.Training = Case
sys.modules['programs'] = programs
"""


def test_a_step_that_is_out_of_memory_is_tried_with_half_its_batch(tmp_path):
  done = run(tmp_path, ['steps', '--quick', '--minutes=8'], _SCARCE)
  rows = [row for row in read_rows(done) if row['case'] == 'x3d']
  failed = [(row['clips'], row.get('failed')) for row in rows]
  assert failed == [(8, 'out of memory'), (4, 'out of memory'), (2, None)]
  assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_each_part_runs_with_jax_flax_and_optax_alone(tmp_path):
  block = f'import sys\nsys.modules |= dict.fromkeys({ABSENT})\n'
  done = run(tmp_path, ['--quick', '--jobs=2', '--minutes=15'], block)
  assert done.returncode == 0, done.stderr
  rows = read_rows(done)
  measured = {row['part'] for row in rows if 'not_measured' not in row}
  assert measured == {'ops', 'steps', 'streams', 'search'}
  missing = [row['not_measured'] for row in rows if row['part'] == 'torch']
  assert missing == ['not installed: torch'] * 2
  for key in ('step_ms', 'queued_ms', 'search_step_ms', 'ms', 'compile_secs', 'device_mb'):
    assert any(key in row for row in rows), key
  assert not [row for row in rows if 'wrong' in row or row.get('finite') is False]
  tables = [line for line in done.stdout.splitlines() if line.startswith('| --- ')]
  assert len(tables) == 4
