"""`movinet search` in real processes: killed, resumed, refused; what it leaves trains."""

import json
import random
import shlex
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from launch.verbs import search
from movinet_jax.train import checkpoint
from movinet_jax.train.workdir import CHECKPOINTS
from nas.space import Space

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
  saver = checkpoint.Checkpointer(workdir / CHECKPOINTS)
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
  assert found['target'] == {'cost': 'macs', 'value': 4e5}
  space = Space.from_json(json.loads((searched / 'space.json').read_text()))
  assert set(found['choices']) <= {d.path for d in space.decisions}
  finalists = sorted((searched / 'finalists').glob('*.json'))
  assert [f.name for f in finalists] == ['01.json', '02.json', '03.json', '04.json']
  networks = [json.loads(f.read_text()) for f in finalists]
  rewards = [network['reward'] for network in networks]
  assert rewards == sorted(rewards, reverse=True)
  assert [n['spec'] for n in networks if not n['changed']] == [found['spec']]
  samples = read_samples(searched)
  assert list(samples) == ['00000004.npz', '00000008.npz', '00000012.npz']
  steps = np.concatenate([part['steps'] for part in samples.values()])
  np.testing.assert_array_equal(steps, np.repeat(np.arange(1, 13), 2))
  rows = [json.loads(x) for x in (searched / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows] == [3, 6, 9, 12]
  assert {'reward', 'accuracy', 'cost_ratio', 'entropy', 'baseline'} <= set(rows[0])


@pytest.mark.slow
@pytest.mark.parametrize('which', ['found.json', 'finalists/01.json'])
def test_what_was_found_trains_by_the_command_that_is_printed(
  which, searched, run_movinet, tmp_path
):
  found = json.loads((searched / which).read_text())
  program, *command = shlex.split(found['train'])
  assert program == 'movinet'
  small = ['--config.loop.total_steps=2', '--config.optimizer.warmup_steps=0']
  code, output = run_movinet([*command, f'--workdir={tmp_path}', *small])
  assert code == 0, output
  config = json.loads((tmp_path / 'config.json').read_text())
  assert config['model']['spec'] == found['spec']


def test_policies_are_charted(searched):
  """Every choice of every decision, and its entropy, where TensorBoard finds them."""
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  events = EventAccumulator(str(searched / 'tensorboard'))
  events.Reload()
  names = events.Tags()['tensors']
  space = Space.from_json(json.loads((searched / 'space.json').read_text()))
  for decision in space.decisions:
    assert f'entropy/{decision.path}' in names
    mine = [n for n in names if n.startswith(f'probability/{decision.path}/')]
    assert len([n for n in mine if n.count('/') == decision.path.count('/') + 2]) == (
      decision.choices
    )
  steps = [e.step for e in events.Tensors('probability/blocks/0/layers/0/kernel/1×3×3')]
  assert steps == [3, 6, 9, 12]


def test_a_finished_search_is_concluded_again(searched, search_command, capsys):
  """Also after a kill that has torn a line of what was logged."""
  before = (searched / 'found.json').read_text()
  (searched / 'found.json').unlink()
  page = (searched / 'report.html').read_text()
  lines = (searched / 'metrics.jsonl').read_text()
  (searched / 'metrics.jsonl').write_text(lines[:100] + '\n' + lines)
  assert search.main(search_command(searched)[1:]) == 0
  assert (searched / 'found.json').read_text() == before
  assert (searched / 'report.html').read_text() == page
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
    both = (np.concatenate([p[key] for p in x.values()]) for x in (parts_, wanted_parts))
    np.testing.assert_array_equal(*both)
  folders = (tmp_path, searched)
  texts = {(folder / 'found.json').read_text().replace(str(folder), '') for folder in folders}
  assert len(texts) == 1


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    (
      {'search.target': 1e12},
      'search.target is 1e[+]12 macs, but networks of this space',
    ),
    ({'search.target': None}, 'target should be float, got None'),
    ({'search.beta': 0.1}, 'beta is 0.1; wanted a number, 0 or less'),
    ({'search.policy_rate': -1.0}, 'policy_rate is -1.0; wanted a number, more than 0'),
    ({'search.learning_rate': -1.0}, 'learning_rate is -1.0; wanted a number, 0 or more'),
    ({'search.seed': 5}, 'search.seed is not a key: seed says it'),
    ({'search.betta': 1}, "did you mean 'beta'"),
    ({'search.reward': 'abs'}, "unknown reward 'abs'"),
    ({'search.cost': 'mac'}, "unknown cost 'mac'; did you mean 'macs'"),
    ({'search.cost': 'latency_ns'}, 'needs search.latency'),
    ({'search.latency': 'no.jsonl'}, 'no.jsonl'),
    ({'search.subclips': 3}, '4 frames cannot be run as 3 sub-clips'),
    ({'search.subclips': 0}, 'subclips is 0'),
    (
      {'search.subclips': 2, 'space.causal': False, 'space.conv': '3d'},
      'whole clips only',
    ),
    ({'search.boundary': 'foo'}, "search.boundary is 'foo' .*truncated"),
    ({'search.memory_beta': -0.1}, 'needs search.memory_target, bytes of stream state'),
    (
      {'search.memory_beta': -0.1, 'search.memory_target': 1e12},
      'search.memory_target is 1e[+]12 state_bytes',
    ),
    ({'search.memory_target': 6e4}, 'memory_target does nothing without'),
    ({'seed': -1}, 'seed is -1; wanted a whole number'),
    ({'seed': 2**31}, 'seed is 2147483648.* wanted a whole number'),
    ({'space.multipliers': '(1.0, 1.2)'}, 'rounds two choices into one'),
    ({'space.width': 3}, "unknown argument of a space 'width'"),
    ({'candidates': 3}, 'batch_size is 4, which 3 candidates cannot share'),
    ({'candidates': 0}, 'candidates is 0; wanted a whole number, 1 or more'),
    ({'policy_share': 1.0}, 'policy_share is 1.0; wanted a number, more than 0 and less than 1'),
    ({'policy_share': None}, 'policy_share should be float, got None'),
    ({'loader.seed': 1}, "loader has no field 'seed'"),
    ({'checkpoints.best_metric': 'top1'}, "best_metric is 'top1', but a search evaluates"),
    ({'loop.eval_every': 2}, 'eval_every is 2, but a search evaluates'),
    ({'optimizer.name': 'sdg'}, "unknown optimizer 'sdg'"),
    ({'optimizer.weight_decay': 0.1}, "optimizer has no key 'weight_decay'"),
    ({'loss.name': 'sigmoid'}, "loss.name is 'softmax'"),
    ({'finalists.foo': 1}, "finalists has no field 'foo'"),
    ({'finalists.batches': 0}, 'finalists.batches is 0; wanted a whole number, 1 or more'),
    ({'train_with': 'configs/no.py'}, "no config file 'configs/no.py'"),
  ],
)
def test_mistakes_are_found_before_anything_is_compiled(changed, message, search_command, tmp_path):
  _, *arguments = search_command(tmp_path / 'run', **changed)
  with pytest.raises((ValueError, OSError), match=message):
    search.main(arguments)
  assert not (tmp_path / 'run').exists()


def test_another_config_is_refused(searched, search_command):
  _, *arguments = search_command(searched, seed=5)
  with pytest.raises(ValueError, match='seed: was 0, now 5'):
    search.main(arguments)


def test_the_end_of_a_search_may_change(searched, search_command):
  """What is only read then: more finalists, another recipe."""
  changed = {'finalists.top': 2, 'train_with': 'configs/movinet/folder.py'}
  assert search.main(search_command(searched, **changed)[1:]) == 0
  assert 'folder.py' in json.loads((searched / 'found.json').read_text())['train']
  files = sorted(f.name for f in (searched / 'finalists').glob('*'))
  assert files == ['01.json', '02.json']  # none of an earlier comparison


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda space: {**space, 'version': 2},
      'version 2, this code reads 1; begin another',
    ),
    (lambda space: {**space, 'tree': []}, 'of 0 decisions, the config says'),
  ],
)
def test_a_workdir_of_another_space_is_refused(change, message, searched, search_command, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(searched, copy)
  space = json.loads((copy / 'space.json').read_text())
  (copy / 'space.json').write_text(json.dumps(change(space)))
  _, *arguments = search_command(copy)
  with pytest.raises(ValueError, match=message):
    search.main(arguments)
  assert json.loads((copy / 'space.json').read_text()) == change(space)


def test_damaged_samples_are_named(searched, search_command, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(searched, copy)
  part = copy / 'samples' / '00000008.npz'
  for damage in (part.read_bytes()[:200], b''):
    part.write_bytes(damage)
    with pytest.raises(ValueError, match=r'00000008\.npz is damaged'):
      search.main(search_command(copy)[1:])


def test_lost_samples_are_said(searched, search_command, tmp_path, capsys):
  copy = tmp_path / 'copy'
  shutil.copytree(searched, copy)
  (copy / 'samples' / '00000008.npz').rename(copy / 'samples' / 'aside.npz')
  assert search.main(search_command(copy)[1:]) == 0
  assert 'holds 16 of the 24 networks' in capsys.readouterr().err
  shutil.rmtree(copy / 'samples')
  assert search.main(search_command(copy)[1:]) == 0
  assert 'holds 0 of the 24 networks' in capsys.readouterr().err


def test_a_recipe_for_other_data_is_said_before_the_search(searched, search_command, capsys):
  changed = {'train_with': 'configs/movinet/csv.py'}
  assert search.main(search_command(searched, **changed)[1:]) == 0
  assert 'csv.py could not train on this data' in capsys.readouterr().err


def test_parsec_searches_and_its_state_is_read_again(search_command, tmp_path):
  changed = {'search.algorithm': 'parsec', 'search.reward': 'hinge', 'search.samples_per_nat': 0.2}
  command = search_command(tmp_path, **changed)[1:]
  assert search.main(command) == 0
  rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').open()]
  assert {'entropy_total', 'entropy_bound', 'penalty', 'samples'} <= set(rows[0])
  found = (tmp_path / 'found.json').read_text()
  assert search.main([*command, '--config.finalists.top=2']) == 0  # which judges again
  again = json.loads((tmp_path / 'found.json').read_text())
  assert again['choices'] == json.loads(found)['choices']
