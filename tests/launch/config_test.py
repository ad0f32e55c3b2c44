"""Every shipped config loads and builds; overrides are checked."""

import inspect
import pathlib

import pytest

from configs.movinet import kinetics600
from launch import config, parts, train
from launch.arguments import make_parser
from movinet_jax import data, models
from movinet_jax.train import checkpoint, loop, losses, optimizers, steps

SHIPPED = sorted(str(p) for p in pathlib.Path('configs').rglob('*.py'))
SHIPPED = [path for path in SHIPPED if not path.endswith('__init__.py')]
VARIANTS = [f'configs/movinet/kinetics600.py:{name}' for name in kinetics600.TABLE]


@pytest.mark.parametrize('file', SHIPPED + VARIANTS)
def test_every_section_is_the_arguments_of_its_callable(file):
  cfg = config.load(file).to_dict()
  parts.call(data.TrainClip, cfg['clip']['train'])
  parts.call(data.EvalClip, cfg['clip']['eval'])
  parts.call(losses.make_loss, cfg['loss'])
  optimizers.make_optimizer(**cfg['optimizer'], batch_size=8, total_steps=10_000)
  model = models.create(**{'num_classes': 4, **cfg['model']})
  assert model.num_classes in (4, 600)
  for section, function in {
    'train': steps.make_train_step,
    'loader': data.make_batches,
    'loop': loop.run,
    'checkpoints': checkpoint.Checkpointer,
  }.items():
    known = set(inspect.signature(function).parameters)
    assert set(cfg[section]) | set(train.LATE.get(section, ())) <= known


def test_every_released_variant_has_a_kinetics_config():
  names = {n for n in models.families()['movinet'].VARIANTS if 'printed' not in n}
  assert set(kinetics600.TABLE) == names


def test_headers_say_what_is_run_and_what_it_reaches():
  for file in SHIPPED:
    text = pathlib.Path(file).read_text().split('"""')[1]
    assert 'Command:' in text, file
    assert 'Hardware:' in text, file


def test_overrides():
  file = 'configs/movinet/folder.py'
  cfg = config.load(file, ['--config.train.subclips=4', '--config.seed=7'])
  assert (cfg.train.subclips, cfg.seed) == (4, 7)


@pytest.mark.parametrize(
  ('overrides', 'named'),
  [
    (['--config.trian.subclips=4'], "no section config.trian; did you mean 'train'"),
    (['--config.sed=4'], "no key config.sed; did you mean 'seed'"),
    (['--config.data.evl=4'], "no key config.data.evl; did you mean 'eval'"),
    (['--config.seed=many'], 'seed'),
  ],
)
def test_wrong_overrides_are_errors(overrides, named):
  with pytest.raises(ValueError, match=named):
    config.load('configs/movinet/folder.py', overrides)


def test_of_a_key_given_twice_the_last_counts():
  given = ['--config.seed=1', '--config.data.train.skip=a', '--config.init=None']
  again = ['--config.data.train.skip=b', '--config.seed=2', '--config.init=a.npz']
  cfg = config.load('configs/movinet/folder.py', [*given, *again])
  assert (cfg.seed, cfg.data.train.skip, cfg.init) == (2, 'b', 'a.npz')


def test_a_missing_file_names_those_shipped():
  with pytest.raises(ValueError, match=r'kinetics600\.py'):
    config.load('configs/nothing.py')


@pytest.mark.parametrize(
  ('file', 'message'),
  [
    ('kinetics600.py:a9', "no variant 'a9'; there are t0"),
    ('quickstart.py:a0', 'takes 0 positional arguments but 1 was given'),
  ],
)
def test_an_error_of_the_config_itself_is_one_line(file, message):
  with pytest.raises(ValueError, match=message) as raised:
    config.load(f'configs/movinet/{file}')
  assert len(str(raised.value).splitlines()) == 1


def test_a_wrong_key_of_a_section_names_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'subclips'"):
    parts.call(steps.make_train_step, {'subclip': 2})


def test_a_section_takes_any_argument_of_its_function():
  given = ['--config.data.train.skip=bad.csv', '--config.clip.eval.clips=3']
  cfg = config.load('configs/movinet/folder.py', [*given, '--config.data.train.root=x'])
  assert cfg.data.train.to_dict() == {
    **{'name': 'folder', 'root': 'x', 'split': 'train', 'skip': 'bad.csv'}
  }
  assert parts.call(data.EvalClip, cfg.clip.eval.to_dict()).clips == 3
  cfg = config.load('configs/movinet/folder.py', ['--config.clip.eval.clip=3'])
  with pytest.raises(
    ValueError, match="takes no 'clip' of a config; did you mean 'clips'"
  ):
    parts.call(data.EvalClip, cfg.clip.eval.to_dict())


def test_values_may_follow_their_keys():
  given = ['--config', 'configs/movinet/folder.py', '--config.seed', '3']
  assert config.parse(make_parser('train', ''), given)[1].seed == 3
  with pytest.raises(SystemExit):
    config.parse(make_parser('train', ''), [*given, '--config.batch_size'])


def test_none_unsets_and_a_model_of_a_spec_takes_options():
  given = ['--config.clip.train.fps=None', '--config.clip.train.stride=2']
  cfg = config.load('configs/movinet/folder.py', given)
  clip = parts.call(data.TrainClip, cfg.clip.train.to_dict())
  assert (clip.fps, clip.stride) == (None, 2)
  given = ['--config.model.dtype=bfloat16']
  cfg = config.load('configs/movinet/quickstart.py', given)
  assert cfg.model.dtype == 'bfloat16'
