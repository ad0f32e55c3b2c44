"""A search in steps: each inherits from the one before, and resumes where it was killed."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from launch.errors import ExitCode
from launch.runs import search as runs
from launch.runs.inheritance import check_labels
from launch.verbs import search
from movinet_jax.train import checkpoint
from movinet_jax.train.workdir import CHECKPOINTS, ConfigMismatch, read_config
from nas.oneshot import samples
from nas.space import Space
from tests.launch.search_test import CONFIG, read_samples, read_state

STEPS = """
  cfg.steps = {
    'step1_kernels': {
      **{'searched': ('*kernel',), 'search': {'target': 3e5}, 'loop': {'total_steps': 6}},
    },
    'step2_widths': {'searched': ('*features', '*expand'), 'search': {'target': 5e5}},
    'step3_depth': {'searched': ('blocks/0/layers/1',), 'loop': {'total_steps': 4}},
  }
  return cfg
"""
KERNELS, WIDTHS, DEPTH = 'step1_kernels', 'step2_widths', 'step3_depth'


@pytest.fixture(scope='module')
def make_command(tmp_path_factory, motion_videos):
  config = tmp_path_factory.mktemp('config') / 'small.py'
  config.write_text(CONFIG.replace('  return cfg\n', STEPS))

  def make(workdir, *words):
    where = f'--config.data.train.root={motion_videos}'
    return [f'--config={config}', f'--workdir={workdir}', where, *words]

  return make


@pytest.fixture(scope='module')
def searched(tmp_path_factory, make_command):
  workdir = tmp_path_factory.mktemp('steps')
  assert search.main(make_command(workdir)) == ExitCode.DONE
  return workdir


def read_found(folder):
  return json.loads((folder / 'found.json').read_text())


def read_space(folder):
  return Space.from_json(json.loads((folder / 'space.json').read_text()))


def test_each_step_keeps_what_the_one_before_found(searched):
  found = {name: read_found(searched / name) for name in (KERNELS, WIDTHS, DEPTH)}
  first, second = found[KERNELS]['choices'], found[WIDTHS]['choices']
  assert first['blocks/0/features'] == 8  # the first choice, not searched yet
  for path in first.keys() & second.keys():
    if path.endswith('kernel'):
      assert first[path] == second[path]
  assert found[WIDTHS]['target'] == {'cost': 'macs', 'value': 5e5}
  space = read_space(searched / WIDTHS)
  for name, patterns in ((KERNELS, ('kernel',)), (WIDTHS, ('features', 'expand'))):
    tried = np.concatenate([part['choices'] for part in read_samples(searched / name).values()])
    for n, decision in enumerate(space.decisions):
      varied = len(set(tried[:, n].tolist())) > 1
      assert not varied or decision.path.endswith(patterns)
    assert any(len(set(column)) > 1 for column in tried.T.tolist())


def test_weights_are_inherited(searched, make_command):
  """What the next step begins with is what the one before ended with."""
  saver = checkpoint.Checkpointer(searched / KERNELS / CHECKPOINTS)
  with saver:
    last = saver._manager.restore(saver.latest_step())['state']
  config = json.loads((searched / WIDTHS / 'config.json').read_text())
  resolved = runs.resolve(config)
  with checkpoint.Checkpointer(searched / 'nothing') as empty:
    state, batches = runs._begin(resolved, empty)
    batches.close()
  shutil.rmtree(searched / 'nothing')
  fresh = resolved.make_state()
  same = jax.tree.map(np.array_equal, jax.device_get(state.params), last['params'])
  assert all(jax.tree.leaves(same))
  assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, fresh.params, last['params'])))
  assert int(state.step) == 0


def test_what_is_left_of_the_whole(searched):
  found = read_found(searched)
  assert found['spec'] == read_found(searched / DEPTH)['spec']
  assert list(found['steps']) == [KERNELS, WIDTHS, DEPTH]
  for step in found['steps'].values():
    assert 0 <= step['entropy_total'] <= step['entropy_bound']
  page = (searched / 'report.html').read_text()
  for name in (KERNELS, WIDTHS, DEPTH):
    assert name in page


def test_steps_that_have_ended_are_not_run_again(searched, make_command, capsys):
  before = (searched / DEPTH / 'metrics.jsonl').read_text()
  assert search.main(make_command(searched)) == ExitCode.DONE
  assert (searched / DEPTH / 'metrics.jsonl').read_text() == before
  assert capsys.readouterr().err.count('has ended') == 3


class _Killed(BaseException):
  pass


def test_killed_in_a_step_it_resumes_there_with_the_same_bits(
  searched, make_command, tmp_path, monkeypatch
):
  write = samples.SampleWriter.write

  def write_or_die(self, step):
    if self._folder.parent.name == WIDTHS and step == 8:
      raise _Killed
    return write(self, step)

  with monkeypatch.context() as patch:
    patch.setattr(samples.SampleWriter, 'write', write_or_die)
    with pytest.raises(_Killed):
      search.main(make_command(tmp_path))
  assert (tmp_path / KERNELS / 'found.json').exists()
  assert not (tmp_path / WIDTHS / 'found.json').exists()
  assert search.main(make_command(tmp_path)) == ExitCode.DONE
  for name in (WIDTHS, DEPTH):
    (step, state), (wanted_step, wanted) = (
      read_state(folder / name) for folder in (tmp_path, searched)
    )
    assert step == wanted_step
    jax.tree.map(np.testing.assert_array_equal, state, wanted)


def test_a_step_runs_alone_after_the_one_before(searched, make_command, tmp_path):
  with pytest.raises(FileNotFoundError, match='step1_kernels'):
    search.main(make_command(tmp_path, f'--step={WIDTHS}'))
  assert search.main(make_command(tmp_path, f'--step={KERNELS}')) == ExitCode.DONE
  assert not (tmp_path / WIDTHS).exists()
  # What has not begun may change yet, what has may not.
  with pytest.raises(ConfigMismatch, match=r'steps\.step1_kernels\.search\.target'):
    search.main(make_command(tmp_path, '--config.steps.step1_kernels.search.target=3.05e5'))
  words = f'--step={WIDTHS}', '--config.steps.step3_depth.loop.total_steps=3'
  assert search.main(make_command(tmp_path, *words)) == ExitCode.DONE
  assert read_found(tmp_path / WIDTHS)['spec'] == read_found(searched / WIDTHS)['spec']
  assert read_config(tmp_path)['steps'][DEPTH]['loop']['total_steps'] == 3
  with pytest.raises(ValueError, match="did you mean 'step2_widths'"):
    search.main(make_command(tmp_path, '--step=step2_width'))


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--config.steps.step2_widths.search.targt=1'], "did you mean 'target'"),
    (['--config.steps.step3_depth.searched=("nowhere",)'], "'nowhere'"),
    (['--config.steps.step2_widths.search.target=1e12'], 'networks of this space have'),
    (['--config.steps.step1_kernels.loops.total_steps=1'], 'step1_kernels'),
    (['--config.steps.step3_depth.searched=()'], 'no decision that matters'),
    (['--config.steps.step2_widths.held={"stem": 9}'], 'stem has choices 0 to'),
    (['--config.steps.step2_widths.inherit=elsewhere'], 'inherits from the step before'),
    (['--config.candidates=1', '--config.search.algorithm=parsec'], 'candidates is 1; Parsec'),
    (['--config.steps.step2_widths.seed=3'], 'seed is not a key of a step'),
    (['--config.steps.step3_depth.policy_share=0.5'], 'policy_share is not a key of a step'),
  ],
)
def test_a_mistake_in_any_step_shows_before_the_first(words, message, make_command, tmp_path):
  with pytest.raises(ValueError, match=message):
    search.main(make_command(tmp_path, *words))
  assert not list(tmp_path.iterdir())


def test_a_search_inherits_from_another(searched, motion_videos, tmp_path):
  """A step by itself, as a search of its own."""
  config, workdir = tmp_path / 'own.py', tmp_path / 'run'
  own = "  cfg.inherit, cfg.searched = '', ('*features',)\n  return cfg\n"
  config.write_text(CONFIG.replace('  return cfg\n', own))
  words = [
    *(f'--config={config}', f'--workdir={workdir}', '--config.search.target=4e5'),
    f'--config.data.train.root={motion_videos}',
  ]
  assert search.main([*words, f'--config.inherit={searched / KERNELS}']) == ExitCode.DONE
  first, second = read_found(searched / KERNELS), read_found(workdir)
  for path in first['choices'].keys() & second['choices'].keys():
    if not path.endswith('features'):
      assert first['choices'][path] == second['choices'][path]
  with pytest.raises(ValueError, match='was begun with choice'):
    search.main([*words, f'--config.inherit={searched / WIDTHS}'])


@pytest.mark.parametrize('name', ['../x', '/tmp/x', 'checkpoints', '', 'found.json', '1'])
def test_names_of_steps_are_folders(name):
  with pytest.raises(ValueError, match='becomes a folder'):
    runs.list_steps({'steps': {name: {}}})


def test_steps_are_in_the_order_of_their_numbers():
  names = ['step10_a', 'step2_b', 'step1_c', 'a']
  assert list(runs.list_steps({'steps': {name: {} for name in names}})) == [
    *('a', 'step1_c', 'step2_b', 'step10_a'),
  ]


def test_another_config_or_another_kind_of_run_is_refused(searched, make_command):
  before = {f: (searched / f).read_bytes() for f in ('config.json', 'found.json', 'report.html')}
  for word in ('--config.seed=5', '--config.steps={}'):
    with pytest.raises(ConfigMismatch):
      search.main(make_command(searched, word))
  assert before == {f: (searched / f).read_bytes() for f in before}


def test_a_first_step_alone_leaves_the_result_of_all(searched, make_command):
  before = (searched / 'found.json').read_text()
  assert search.main(make_command(searched, f'--step={KERNELS}')) == ExitCode.DONE
  assert (searched / 'found.json').read_text() == before


def test_steps_that_differ_in_numbers_are_one_program(
  make_command, motion_videos, monkeypatch, tmp_path
):
  compiled, resolve = [], runs.resolve

  def watch(*arguments, **options):
    found = resolve(*arguments, **options)
    step = found.step

    def traced(state, batch):
      compiled.append(found.config.loop.total_steps)
      return step(state, batch)

    return dataclasses.replace(found, step=traced)

  monkeypatch.setattr(runs, 'resolve', watch)
  assert search.main(make_command(tmp_path)) == ExitCode.DONE
  assert compiled == [6]


def test_the_step_before_must_have_ended_whole(searched, make_command, tmp_path):
  """found.json is written last: without it finalists and report are made again."""
  copy = tmp_path / 'copy'
  shutil.copytree(searched, copy)
  (copy / DEPTH / 'found.json').unlink()
  (copy / DEPTH / 'report.html').unlink()
  assert search.main(make_command(copy)) == ExitCode.DONE
  assert read_found(copy / DEPTH)['spec'] == read_found(searched / DEPTH)['spec']
  assert (copy / DEPTH / 'report.html').exists()


def test_what_cannot_be_inherited(searched, motion_videos, tmp_path):
  config = tmp_path / 'own.py'
  config.write_text(CONFIG.replace('  return cfg\n', "  cfg.inherit = ''\n  return cfg\n"))
  words = [f'--config={config}', f'--workdir={tmp_path}/run']
  words.append(f'--config.data.train.root={motion_videos}')
  last = f'inherit from the last one, {searched / DEPTH}'
  for folder, message in ((searched, last), (tmp_path, 'space.json')):
    with pytest.raises(FileNotFoundError, match=message):
      search.main([*words, f'--config.inherit={folder}'])
  other = ['--config.space.multipliers=(1.0,)', f'--config.inherit={searched / KERNELS}']
  with pytest.raises(ValueError, match='begin another workdir'):
    search.main([*words, *other])
  assert not (tmp_path / 'run').exists()
  labels = ('right', 'left', 'down', 'sideways')
  with pytest.raises(ValueError, match="'sideways'"):
    check_labels(searched / KERNELS / CHECKPOINTS, labels)
