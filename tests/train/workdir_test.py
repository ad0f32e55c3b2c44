import errno
import os

import pytest

from movinet_jax.train import workdir
from movinet_jax.train.workdir import (
  ConfigMismatch,
  claim_together,
  claim_workdir,
  read_config,
)

CONFIG = {'train': {'lr': 1.8, 'sizes': (1, 2)}, 'model': {'name': 'movinet/a0'}}


def test_the_same_config_resumes(tmp_path):
  assert claim_workdir(tmp_path / 'run', CONFIG) is False
  assert claim_workdir(tmp_path / 'run', CONFIG) is True
  assert read_config(tmp_path / 'run')['train'] == {'lr': 1.8, 'sizes': [1, 2]}
  assert [p.name for p in (tmp_path / 'run').iterdir()] == ['config.json']


def test_a_file_system_without_links_is_claimed_as_well(tmp_path, monkeypatch):
  """A bucket that is mounted knows none."""

  def link(*paths):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

  monkeypatch.setattr(workdir.os, 'link', link)
  assert claim_workdir(tmp_path, CONFIG) is False
  assert claim_workdir(tmp_path, CONFIG) is True
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']
  (tmp_path / 'first').write_text('mine')
  assert not workdir._write_new(tmp_path / 'first', 'yours')
  assert (tmp_path / 'first').read_text() == 'mine'


def test_another_config_is_refused_with_the_difference(tmp_path):
  claim_workdir(tmp_path, CONFIG)
  before = (tmp_path / 'config.json').read_text()
  other = {'train': {'lr': 0.9, 'sizes': (1, 2), 'ema': 0.5}, 'model': {}}
  with pytest.raises(ConfigMismatch) as caught:
    claim_workdir(tmp_path, other)
  assert caught.value.differences == [
    'model.name: was "movinet/a0", now absent',
    'train.ema: was absent, now 0.5',
    'train.lr: was 1.8, now 0.9',
  ]
  assert (tmp_path / 'config.json').read_text() == before


def test_a_setting_that_came_later_begins_as_null(tmp_path):
  claim_workdir(tmp_path, CONFIG)
  more = {**CONFIG['train'], 'ema': None}
  assert claim_workdir(tmp_path, {**CONFIG, 'train': more}) is True


def test_a_config_cannot_be_anything_but_json(tmp_path):
  with pytest.raises(ValueError, match='JSON'):
    claim_workdir(tmp_path, {'fn': object()})
  assert not (tmp_path / 'config.json').exists()


def test_a_spoilt_config_is_not_replaced(tmp_path):
  (tmp_path / 'config.json').write_text('{"train": ')
  with pytest.raises(ValueError, match='was it edited'):
    claim_workdir(tmp_path, CONFIG)
  assert (tmp_path / 'config.json').read_text() == '{"train": '


@pytest.mark.parametrize('text', ['[1]', '"text"', 'null'])
def test_json_that_is_no_config_is_named(tmp_path, text):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ValueError, match=r'config\.json holds no config'):
    read_config(tmp_path)


def test_what_does_not_change_results_may_change(tmp_path):
  claim_workdir(tmp_path, CONFIG)
  other = {**CONFIG, 'train': {'lr': 1.8, 'sizes': (3,)}}
  with pytest.raises(ConfigMismatch):
    claim_workdir(tmp_path, other, free={'train.lr'})
  assert claim_workdir(tmp_path, other, free={'train.sizes'}) is True
  assert read_config(tmp_path)['train']['sizes'] == [3]


def test_a_run_that_never_began_takes_a_mended_config(tmp_path):
  claim_workdir(tmp_path, CONFIG)
  mended = {**CONFIG, 'model': {'name': 'movinet/a1'}}
  assert claim_workdir(tmp_path, mended, begun=False) is False
  assert read_config(tmp_path)['model'] == {'name': 'movinet/a1'}
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']


def test_a_folder_without_a_run_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='no workdir of a run'):
    read_config(tmp_path / 'checkpoints')


def test_a_first_key_of_a_section_is_that_key(tmp_path):
  """A section that was empty is no difference of its own."""
  claim_workdir(tmp_path, {'a': 1, 'end': {}})
  free = {'end.top'}
  assert claim_workdir(tmp_path, {'a': 1, 'end': {'top': 2}}, free=free) is True
  assert claim_workdir(tmp_path, {'a': 1, 'end': {}}, free=free) is True
  with pytest.raises(ConfigMismatch, match=r'end\.other: was absent, now 3'):
    claim_workdir(tmp_path, {'a': 1, 'end': {'other': 3}}, free=free)


@pytest.mark.parametrize('result', ['checkpoint', 'metrics'])
def test_a_run_with_a_result_is_claimed_for_good(result, tmp_path):
  assert claim_together(tmp_path, CONFIG) is False
  mended = {**CONFIG, 'model': {'name': 'movinet/a1'}}
  assert claim_together(tmp_path, mended) is False
  if result == 'metrics':
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  else:
    for name in ('meta', 'state'):
      (tmp_path / 'checkpoints/3' / name).mkdir(parents=True)
    for name in ('_CHECKPOINT_METADATA', 'meta/metadata', 'state/_METADATA'):
      (tmp_path / 'checkpoints/3' / name).touch()
  assert claim_together(tmp_path, mended) is True
  with pytest.raises(ConfigMismatch, match=r'model\.name'):
    claim_together(tmp_path, CONFIG)
  assert claim_together(tmp_path, CONFIG, free={'model.name'}) is True


@pytest.fixture
def processes(monkeypatch):
  """Runs `claim_together` as the first process, then as the second, in one folder or two."""
  told = []

  def broadcast(value):
    if workdir.jax.process_index() == 0:
      told.append(value)
    return told[-1]

  monkeypatch.setattr(workdir.multihost_utils, 'broadcast_one_to_all', broadcast)

  def claim(*folders, config=CONFIG):
    results = []
    for rank, folder in enumerate(folders):
      monkeypatch.setattr(workdir.jax, 'process_index', lambda rank=rank: rank)
      try:
        results.append(claim_together(folder, config))
      except ValueError as error:
        results.append(error)
    return results

  return claim


def test_all_processes_hear_what_the_first_one_found(processes, tmp_path):
  assert processes(tmp_path, tmp_path) == [False, False]
  assert processes(tmp_path, tmp_path) == [True, True]


def test_all_processes_fail_where_the_first_one_does(processes, tmp_path):
  processes(tmp_path, tmp_path)
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  errors = processes(tmp_path, tmp_path, config={'train': {'lr': 0.1}})
  assert [type(error) for error in errors] == [ConfigMismatch, ConfigMismatch]
  assert str(errors[0]) == str(errors[1])


def test_a_process_that_does_not_see_the_workdir_says_so(processes, tmp_path):
  first, second = processes(tmp_path / 'shared', tmp_path / 'local')
  assert first is False
  assert str(tmp_path / 'local') in str(second)
  assert 'must be on a file system that all hosts share' in str(second)
  assert not (tmp_path / 'local').exists()
