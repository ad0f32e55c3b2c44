"""What a run does with a workdir that has lost something: it never begins anew by itself."""

import json
import pathlib
import shutil

import pytest

from launch import main
from movinet_jax.train.checkpoint import count_steps
from movinet_jax.train.writers import LAST_SAVE


@pytest.fixture
def damaged(trained, tmp_path):
  """Makes a copy of a finished run, with checkpoints 4 and 6, and what `harm` does to it."""

  def make(harm):
    folder = tmp_path / 'run'
    shutil.copytree(trained, folder)
    harm(folder)
    return folder

  return make


def lose(name, *steps):
  """Removes a file of some checkpoints."""

  def harm(folder):
    for step in steps:
      (folder / 'checkpoints' / str(step) / name).unlink()

  return harm


def spoil(*steps):
  """Overwrites the arrays of some checkpoints."""

  def harm(folder):
    for step in steps:
      for path in (folder / 'checkpoints' / str(step) / 'state').rglob('d/*'):
        path.write_bytes(b'x' * min(100, path.stat().st_size))

  return harm


def remove(*names):
  def harm(folder):
    for name in names:
      path = folder / name
      shutil.rmtree(path) if path.is_dir() else path.unlink()

  return harm


@pytest.mark.parametrize('name', ['meta/metadata', 'state/_METADATA'])
def test_an_incomplete_checkpoint_is_named_and_set_aside(name, damaged, train_command, capfd):
  folder = damaged(lose(name, 6))
  assert main.main(['evaluate', f'--checkpoint={folder}']) == 0
  said = capfd.readouterr().err
  assert f'{folder}/checkpoints/6 is incomplete (no {name})' in said
  assert 'step 4 is read instead' in said
  assert (folder / 'evaluation-clip-4.json').exists()
  assert main.main(train_command(folder)) == 0
  said = capfd.readouterr().err
  assert f'6 is incomplete (no {name})' in said
  assert 'Restored step 4' in said
  assert count_steps(folder / 'checkpoints') == [4, 6]
  aside = [path for path in (folder / 'checkpoints').iterdir() if 'incomplete' in path.name]
  assert [path.name.partition('-')[0] for path in aside] == ['6.incomplete']
  assert list(aside[0].iterdir())  # what was left of it


@pytest.mark.parametrize('verb', ['train', 'evaluate'])
@pytest.mark.parametrize(('steps', 'good'), [((6,), 4), ((6, 4), None)])
def test_damaged_arrays_name_the_step_that_can_be_read(
  verb, steps, good, damaged, train_command, capfd
):
  folder = damaged(spoil(*steps))
  command = train_command(folder) if verb == 'train' else [verb, f'--checkpoint={folder}']
  assert main.main(command) == 2
  (line,) = capfd.readouterr().err.strip().splitlines()
  assert f'{folder}/checkpoints/6 cannot be read' in line
  assert 'No step before it can be read' in line if good is None else f'Step {good} can' in line
  if good == 4:  # what the line says helps
    shutil.move(folder / 'checkpoints/6', folder / 'elsewhere')
    assert main.main(command) == 0
    said = capfd.readouterr()
    assert 'Restored step 4' in said.err or (folder / 'evaluation-clip-4.json').exists()


@pytest.mark.parametrize(
  'harm', [remove('checkpoints'), lose('meta/metadata', 4, 6), remove('checkpoints', LAST_SAVE)]
)
def test_a_run_that_has_lost_all_does_not_begin_anew(harm, damaged, train_command, capfd):
  folder = damaged(harm)
  rows = (folder / 'metrics.jsonl').read_text()
  assert main.main(train_command(folder)) == 2
  (line,) = capfd.readouterr().err.strip().splitlines()
  assert f'{folder} has reached step 6' in line
  assert f'remove {folder}/' in line
  assert (folder / 'metrics.jsonl').read_text() == rows
  remove(*(name for name in (LAST_SAVE, 'metrics.jsonl') if (folder / name).exists()))(folder)
  assert main.main(train_command(folder, **{'loop.total_steps': 6})) == 0


def test_a_run_that_was_killed_before_its_first_save_begins_again(damaged, train_command):
  folder = damaged(remove('checkpoints'))
  rows = (folder / 'metrics.jsonl').read_text().splitlines(keepends=True)
  (folder / 'metrics.jsonl').write_text(rows[0])
  (folder / LAST_SAVE).write_text('{"step": null}\n')  # as a run begins
  assert main.main(train_command(folder)) == 0
  assert json.loads((folder / LAST_SAVE).read_text()) == {'step': 6}


@pytest.mark.parametrize('text', ['', '{', '[]', '{}'])
def test_a_damaged_note_of_the_last_save_is_named(text, damaged, train_command, capfd):
  folder = damaged(remove('checkpoints'))
  (folder / LAST_SAVE).write_text(text)
  assert main.main(train_command(folder)) == 2
  assert f'{folder / LAST_SAVE} is damaged' in capfd.readouterr().err


@pytest.mark.parametrize('text', ['', '{}', '[]', '{"step": 4, "metrics": {}}', '{"step": 6}'])
def test_damaged_text_of_a_checkpoint_is_named_with_a_remedy(text, damaged, train_command, capfd):
  folder = damaged(lambda folder: (folder / 'checkpoints/6/meta/metadata').write_text(text))
  assert main.main(train_command(folder)) == 2
  *_, line = capfd.readouterr().err.strip().splitlines()
  assert 'damaged' in line
  assert f'move {folder}/checkpoints/6 elsewhere' in line


def test_a_checkpoint_without_a_position_is_damaged(damaged, train_command, capfd):
  folder = damaged(
    lambda folder: (folder / 'checkpoints/6/meta/metadata').write_text('{"step": 6, "metrics": {}}')
  )
  assert main.main(train_command(folder)) == 2
  assert 'no position of its input' in capfd.readouterr().err


@pytest.mark.parametrize('name', ['trials', 'space.json', 'found.json'])
def test_what_a_run_has_left_belongs_to_somebody(name, train_command, tmp_path, capfd):
  (tmp_path / name).mkdir()
  assert main.main(train_command(tmp_path)) == 2
  assert f'{tmp_path} holds a run ({name}), but its config.json is gone' in capfd.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_without_its_config_goes_on_with_no_other(damaged, train_command, capfd):
  folder = damaged(remove('config.json'))
  assert main.main(train_command(folder, seed=1)) == 2
  (line,) = capfd.readouterr().err.strip().splitlines()
  assert f'{folder} holds a run (metrics.jsonl), but its config.json is gone' in line
  meta = json.loads((folder / 'checkpoints/6/meta/metadata').read_text())
  (folder / 'config.json').write_text(json.dumps(meta['config']))  # as the line says
  assert main.main(train_command(folder)) == 0


def test_what_cannot_be_written_is_known_before_an_evaluation(damaged, monkeypatch, capfd):
  folder = damaged(lambda folder: (folder / 'evaluation-clip-6-classes.csv').mkdir())
  monkeypatch.setattr('launch.verbs.evaluate.make_evaluate', pytest.fail)
  assert main.main(['evaluate', f'--checkpoint={folder}']) == 2
  assert 'evaluation-clip-6-classes.csv' in capfd.readouterr().err


def test_the_copies_are_of_a_run_as_it_is(trained):
  assert count_steps(pathlib.Path(trained) / 'checkpoints') == [4, 6]
