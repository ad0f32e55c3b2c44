"""`movinet search` in real processes: killed, resumed, refused; what it leaves trains."""

import json
import random
import signal
import time

import jax
import numpy as np
import pytest

from launch import parts, search
from movinet_jax.train import checkpoint

CONFIG = """
from configs.search import quickstart


def get_config():
  cfg = quickstart.get_config()
  cfg.candidates, cfg.batch_size, cfg.policy_batch_size = 2, 4, 4
  cfg.space.update(
    stem=8, widths=(8,), strides=(2,), depth=2, project=8, head=8, resolution=16,
    kernels=((1, 3, 3), (3, 1, 1)), expansions=(1.0, 2.0), multipliers=(1.0, 2.0),
  )
  cfg.clip.update(frames=4, size=16)
  cfg.search.target = 4e5
  cfg.loop.update(total_steps=12, log_every=3, save_every=4)
  cfg.finalists.update(neighbours=3, control=2, band=0.2, batches=2)
  return cfg
"""


@pytest.fixture(scope='module')
def search_command(tmp_path_factory, motion_videos):
  """Makes the command line of a small search."""
  config = tmp_path_factory.mktemp('config') / 'small.py'
  config.write_text(CONFIG)

  def make(workdir, **changed):
    values = {'data.train.root': motion_videos, **changed}
    given = [f'--config.{key}={value}' for key, value in values.items()]
    return ['search', f'--config={config}', f'--workdir={workdir}', *given]

  return make


@pytest.fixture(scope='module')
def searched(tmp_path_factory, search_command):
  """Workdir of a finished search."""
  workdir = tmp_path_factory.mktemp('search')
  assert search.main(search_command(workdir)[1:]) == 0
  return workdir


def read_state(workdir):
  """All arrays of the last checkpoint, whatever they mean."""
  saver = checkpoint.Checkpointer(workdir / parts.CHECKPOINTS)
  with saver:
    step = saver.latest_step()
    tree = saver._manager.restore(step)['state']
  return step, jax.device_get(tree)


def read_samples(workdir):
  files = sorted((workdir / 'samples').glob('*.npz'))
  return {file.name: dict(np.load(file)) for file in files}


def test_what_a_search_leaves(searched):
  found = json.loads((searched / 'found.json').read_text())
  assert found['family'] == 'movinet'
  assert found['cost']['macs'] > 0
  assert 'small' not in (searched / 'report.html').read_text()[:200]
  samples = read_samples(searched)
  assert list(samples) == ['00000004.npz', '00000008.npz', '00000012.npz']
  steps = np.concatenate([part['steps'] for part in samples.values()])
  np.testing.assert_array_equal(steps, np.repeat(np.arange(1, 13), 2))
  rows = [json.loads(x) for x in (searched / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows] == [3, 6, 9, 12]
  assert {'reward', 'accuracy', 'cost_ratio', 'entropy', 'baseline'} <= set(rows[0])


def test_what_was_found_trains(searched, run_movinet, train_command, tmp_path):
  command = [*train_command(tmp_path), f'--spec={searched / "found.json"}']
  small = [c for c in command if 'spec' not in c or c.startswith('--spec')]
  code, output = run_movinet([*small, '--config.loop.total_steps=2'])
  assert code == 0, output
  config = json.loads((tmp_path / 'config.json').read_text())
  found = json.loads((searched / 'found.json').read_text())
  assert config['model']['spec'] == found['spec']
  assert found['train'].startswith('movinet train --config=configs/movinet/')


def test_a_finished_search_is_concluded_again(searched, search_command, capsys):
  before = (searched / 'found.json').read_text()
  (searched / 'found.json').unlink()
  assert search.main(search_command(searched)[1:]) == 0
  assert (searched / 'found.json').read_text() == before
  assert 'multiply-adds' in capsys.readouterr().out


@pytest.mark.slow
def test_killed_anywhere_and_resumed_equals_never_stopped(
  searched, search_command, start_movinet, run_movinet, tmp_path
):
  """SIGKILL at random moments: weights, policy, samples and result have the same bits."""
  draw = random.Random(1)
  command = search_command(tmp_path)
  for _ in range(3):
    process = start_movinet(command)
    until = time.monotonic() + 90
    saved = len(list((tmp_path / 'checkpoints').glob('*')))
    while len(list((tmp_path / 'checkpoints').glob('*'))) <= saved:
      if process.poll() is not None or time.monotonic() > until:
        break
      time.sleep(0.02)
    time.sleep(draw.uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()
  code, output = run_movinet(command)
  assert code == 0, output
  (step, state), (wanted_step, wanted) = map(read_state, (tmp_path, searched))
  assert step == wanted_step == 12
  jax.tree.map(np.testing.assert_array_equal, state, wanted)
  parts_, wanted_parts = map(read_samples, (tmp_path, searched))
  for key in ('steps', 'choices', 'accuracy', 'reward', 'cost'):
    both = (
      np.concatenate([p[key] for p in x.values()]) for x in (parts_, wanted_parts)
    )
    np.testing.assert_array_equal(*both)
  texts = ((folder / 'found.json').read_text() for folder in (tmp_path, searched))
  assert len({text.replace(str(f), '') for text, f in zip(texts, (tmp_path, searched), strict=True)}) == 1  # fmt: skip


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'search.target': 1e12}, 'but networks of this space have'),
    ({'space.multipliers': '(1.0, 1.2)'}, 'rounds two choices into one'),
    ({'space.width': 3}, "unknown argument of a space 'width'"),
    ({'search.betta': 1}, "did you mean 'beta'"),
    ({'search.reward': 'abs'}, "unknown reward 'abs'"),
    ({'candidates': 3}, 'batch_size is 4, which 3 candidates cannot share'),
    ({'policy_share': 1.0}, 'both parts need some'),
    ({'loader.seed': 1}, "unknown key of loader 'seed'"),
  ],
)
def test_mistakes_are_found_before_anything_is_compiled(
  changed, message, search_command, tmp_path
):
  _, *arguments = search_command(tmp_path / 'run', **changed)
  with pytest.raises(ValueError, match=message):
    search.main(arguments)
  assert not (tmp_path / 'run').exists()


def test_another_config_is_refused(searched, search_command):
  _, *arguments = search_command(searched, seed=5)
  with pytest.raises(ValueError, match='seed: was 0, now 5'):
    search.main(arguments)
