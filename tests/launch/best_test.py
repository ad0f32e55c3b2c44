"""The best checkpoint of a run: which metric may choose it, and which value of it is best."""

import json

import pytest

from launch import main
from launch.config import load_config
from launch.runs import training
from launch.runs.trained import load_trained
from movinet_jax.train.checkpoint import Checkpointer
from movinet_jax.train.workdir import CHECKPOINTS, claim_workdir


def make_config(multi_label=False, **checkpoints) -> dict:
  cfg = load_config('configs/movinet/quickstart.py').to_dict()
  cfg['loss'] = {'name': 'sigmoid' if multi_label else 'softmax'}
  return {**cfg, 'checkpoints': checkpoints}


@pytest.mark.parametrize('metric', ['top1', 'loss', 'mean_class_accuracy', None])
def test_metrics_with_a_direction_are_taken(metric):
  training.resolve(make_config(best_metric=metric), num_classes=4)


@pytest.mark.parametrize(
  ('options', 'facts'),
  [
    ({'best_metric': 'top9'}, ("best_metric 'top9'", "did you mean 'top1'")),
    ({'best_metric': 'top5'}, ("best_metric 'top5'", "'top1'")),  # there are four classes
    ({'best_metric': 'los'}, ("best_metric 'los'", "did you mean 'loss'")),
    ({'best_metric': 'mAP'}, ("best_metric 'mAP'", 'mean_class_accuracy')),
    ({'best_metric': 'loss', 'multi_label': True}, ("best_metric 'loss'", 'mAP')),
    ({'best_metric': 'missing'}, ("best_metric 'missing'", 'a count')),
    ({'best_metric': 'loss', 'best_mode': 'max'}, ("best_mode is 'max'", 'lower is better')),
    ({'best_metric': 'top1', 'best_mode': 'min'}, ("best_mode is 'min'", 'higher is better')),
  ],
)
def test_others_are_refused_before_anything_is_opened(options, facts):
  with pytest.raises(ValueError, match='best_m') as caught:
    training.resolve(make_config(**options), num_classes=4)
  assert [fact for fact in facts if fact not in str(caught.value)] == []


def test_a_metric_that_is_never_computed_is_said(train_command, tmp_path, capsys):
  """And not refused: a run without `data.eval` could not go on with another best_metric."""
  changed = {'data.eval': None, 'loop.eval_every': 0, 'precise_norm': None, 'loop.total_steps': 1}
  command = train_command(tmp_path / 'run', **{**changed, 'optimizer.warmup_steps': 0})
  command = [word for word in command if not word.startswith('--config.data.eval.')]
  assert main.main(command) == 0
  assert 'best_metric=top1: the latest checkpoints are kept' in capsys.readouterr().err


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A run that was evaluated twice: the first checkpoint has the lower loss and top1."""
  folder = tmp_path_factory.mktemp('run')
  built = training.resolve(make_config(), num_classes=4)
  claim_workdir(folder, {**built.record, 'checkpoints': {}})
  state = built.make_state(training.load_initial(built.model, 0))
  meta = {'labels': list('abcd'), 'preprocessing': built.record['clip']['eval']}
  with Checkpointer(folder / CHECKPOINTS) as saver:
    for step, loss, top1 in ((1, 0.5, 0.2), (2, 1.5, 0.7)):
      saver.save(state.replace(step=state.step * 0 + step), meta)
      saver.add_metrics(step, {'loss': loss, 'top1': top1})
  return folder


@pytest.mark.parametrize(
  ('options', 'step', 'told'),
  [
    ({'best_metric': 'loss'}, 1, False),
    ({'best_metric': 'loss', 'best_mode': 'max'}, 1, True),
    ({'best_metric': 'top1', 'best_mode': 'max'}, 2, False),
    ({'best_metric': 'top1'}, 2, False),
  ],
)
def test_a_run_of_an_earlier_version_gives_its_best_and_not_its_worst(
  workdir, options, step, told, capsys
):
  config = json.loads((workdir / 'config.json').read_text())
  (workdir / 'config.json').write_text(json.dumps({**config, 'checkpoints': options}))
  assert load_trained(str(workdir), 'best').step == step
  assert ("best_mode='max'" in capsys.readouterr().err) == told


def test_the_latest_of_such_a_run_needs_no_best(workdir, capsys):
  config = json.loads((workdir / 'config.json').read_text())
  config['checkpoints'] = {'best_metric': 'loss', 'best_mode': 'max'}
  (workdir / 'config.json').write_text(json.dumps(config))
  assert load_trained(str(workdir)).step == 2
  assert capsys.readouterr().err == ''


def test_such_a_run_goes_on_with_the_right_direction(tmp_path):
  record = training.resolve(make_config(best_metric='loss'), num_classes=4).record
  old = {**record, 'checkpoints': {'best_metric': 'loss', 'best_mode': 'max'}}
  claim_workdir(tmp_path, old)
  assert claim_workdir(tmp_path, record, free=training.FREE)
  assert json.loads((tmp_path / 'config.json').read_text())['checkpoints'] == {
    'best_metric': 'loss'
  }
