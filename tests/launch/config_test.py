"""Every shipped config loads and builds; overrides are checked."""

import dataclasses
import pathlib
import sys

import jax.numpy as jnp
import pytest

from configs.movinet import kinetics600
from configs.search import movinet as search_movinet
from configs.x3d import kinetics400
from launch import config
from launch.arguments import make_parser
from launch.runs import search, training
from launch.verbs import train
from movinet_jax import data, models, schema
from movinet_jax.models.movinet import VARIANTS as VARIANTS_OF
from movinet_jax.train import steps
from nas.spaces.movinet import make_space

SHIPPED = sorted(str(p) for p in pathlib.Path('configs').rglob('*.py'))
SHIPPED = [path for path in SHIPPED if not path.endswith('__init__.py')]
TRAINING = [path for path in SHIPPED if path.split('/')[1] not in ('search', 'sweep', 'compare')]
X3DS = [f'{name}{form}' for name in kinetics400.TABLE for form in ('', '-stream')]
VARIANTS = [
  *(f'configs/movinet/kinetics600.py:{name}' for name in kinetics600.TABLE),
  *(f'configs/x3d/kinetics400.py:{name}' for name in X3DS),
]


@pytest.mark.parametrize('file', TRAINING + VARIANTS)
def test_every_training_config_resolves(file):
  cfg = config.load_config(file).to_dict()
  resolved = training.resolve(cfg, num_classes=cfg['model'].get('num_classes', 4))
  assert resolved.num_classes in (4, 174, 339, 400, 600)


SEARCHES = [
  *('configs/search/quickstart.py', 'configs/search/study.py:17'),
  *(f'configs/search/movinet.py:{name}' for name in search_movinet.TABLE),
  *('configs/search/movinet.py:a2-stream', 'configs/search/movinet.py:a5-stream'),
]


@pytest.mark.parametrize('file', SEARCHES)
def test_every_search_config_resolves(file):
  cfg = config.load_config(file).to_dict()
  resolved = search.resolve(cfg, num_classes=600)
  trained = config.load_config(resolved.config.train_with).to_dict()
  assert trained['model']['name'].partition('/')[0] == resolved.networks.family


@pytest.mark.parametrize('name', search_movinet.TABLE)
def test_a_search_of_streams_has_the_released_streams_form(name):
  cfg = config.load_config(f'configs/search/movinet.py:{name}-stream').to_dict()
  space, released = make_space(**cfg['space']), VARIANTS_OF[f'{name}-stream']
  own = ('stem', 'blocks', 'project')
  for field in dataclasses.fields(released):
    if field.name not in own:
      assert getattr(space.base, field.name) == getattr(released, field.name), field.name


def test_a_study_has_every_run():
  runs = [config.load_config(f'configs/search/study.py:{n}') for n in (0, 1, 17)]
  assert len({(r.seed, r.search.beta, r.search.target) for r in runs}) == 3
  with pytest.raises(ValueError, match='there are 0 to 17'):
    config.load_config('configs/search/study.py:18')


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
  cfg = config.load_config(file, ['--config.train.subclips=4', '--config.seed=7'])
  assert (cfg.train.subclips, cfg.seed) == (4, 7)


@pytest.mark.parametrize(
  ('overrides', 'named'),
  [
    (['--config.trian.subclips=4'], "no field 'trian'; did you mean 'train'"),
    (['--config.sed=4'], "no field 'sed'; did you mean 'seed'"),
    (['--config.data.evl=4'], "data has no field 'evl'; did you mean 'eval'"),
    (['--config.seed=many'], "config.seed is 0 .* got 'many'"),
    (['--config.seed.a=1'], 'config.seed is 0 and no section'),
    (['--config.loop..x=1'], 'config.loop..x: wanted --config.section.key=value'),
  ],
)
def test_wrong_overrides_are_errors(overrides, named):
  with pytest.raises(ValueError, match=named):
    training.read(config.load_config('configs/movinet/folder.py', overrides).to_dict())


@pytest.mark.parametrize(
  ('text', 'value'),
  [
    *(('false', False), ('False', False), ('TRUE', True), ('none', None), ('None', None)),
    *(('3', 3), ('1e-3', 1e-3), ('-2.5', -2.5), ('(1,2)', (1, 2)), ('1,2', (1, 2))),
    *(("'3'", '3'), ('a=b', 'a=b'), ('', ''), ('a.csv', 'a.csv'), ('[', '[')),
  ],
)
def test_a_value_is_read_the_same_for_any_key(text, value):
  """Whether the config lists the key or not, if what it lists is no text."""
  listed = ['clip.train.fps'] if isinstance(value, (int, float, tuple)) else []
  listed = ['clip.train.flip'] if isinstance(value, bool) else listed
  for key in ('clip.train.new', 'new', *listed):
    found = config.load_config('configs/movinet/folder.py', [f'--config.{key}={text}'])
    assert found.to_dict() == _change(key, value)


def _change(key, value):
  *path, last = key.split('.')
  changed = config.load_config('configs/movinet/folder.py').to_dict()
  section = changed
  for name in path:
    section = section[name]
  section[last] = value
  return changed


def test_classes_need_not_be_listed_by_a_config():
  given = ['--config.data.classes.count=3', '--config.data.classes.seed=1']
  cfg = config.load_config('configs/movinet/folder.py', given)
  assert cfg.data.classes.to_dict() == {'count': 3, 'seed': 1}
  cfg = config.load_config('configs/movinet/folder.py', ["--config.data.classes.names=('a','b')"])
  assert cfg.data.classes.names == ('a', 'b')
  assert 'classes' not in config.load_config('configs/movinet/folder.py').data
  merged = config.merge_config({'data': {'train': {}}}, {'data': {'classes': {'count': 3}}})
  assert merged == {'data': {'train': {}, 'classes': {'count': 3}}}


def test_of_a_key_given_twice_the_last_counts():
  given = ['--config.seed=1', '--config.data.train.skip=a', '--config.init=None']
  again = ['--config.data.train.skip=b', '--config.seed=2', '--config.init=a.npz']
  cfg = config.load_config('configs/movinet/folder.py', [*given, *again])
  assert (cfg.seed, cfg.data.train.skip, cfg.init) == (2, 'b', 'a.npz')


def test_a_missing_file_names_those_shipped():
  with pytest.raises(ValueError, match=r'kinetics600\.py'):
    config.load_config('configs/nothing.py')


@pytest.mark.parametrize(
  ('file', 'message'),
  [
    ('movinet/kinetics600.py:a9', "no variant 'a9'; there are t0"),
    ('tsnet/quickstart.py:a0', 'takes 0 positional arguments but 1 was given'),
  ],
)
def test_an_error_of_the_config_itself_is_one_line(file, message):
  with pytest.raises(ValueError, match=message) as raised:
    config.load_config(f'configs/{file}')
  assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('def get_config(:\n', r'SyntaxError: .*line 1'),
    ('\nimport no_such_module\n', r'own\.py, line 2: ModuleNotFoundError: .*no_such_module'),
    ('def get_config():\n  return 1 / 0\n', r'own\.py, line 2: ZeroDivisionError: division'),
    ('def get_config():\n  pass\n', 'get_config returned None; wanted a ConfigDict'),
    ('def get_config():\n  return [1]\n', r'get_config returned \[1\]; wanted a ConfigDict'),
    ('cfg = 1\n', 'it has no function get_config'),
    ('import sys\nsys.exit()\n', r'own\.py, line 2: SystemExit'),
    ('def get_config():\n  return {"a.b": 1}\n', 'own.py'),
    ('get_config = 3\n', 'it has no function get_config'),
    ('\x00', 'own.py'),
    ('x = "\\ud800"\nraise ValueError(x)', 'own.py'),
  ],
)
def test_what_is_wrong_in_a_config_is_one_line_that_names_it(text, message, tmp_path):
  (tmp_path / 'own.py').write_text(text)
  with pytest.raises(ValueError, match=message) as raised:
    config.load_config(f'{tmp_path}/own.py')
  assert len(str(raised.value).splitlines()) == 1
  assert str(tmp_path / 'own.py') in str(raised.value)


def test_a_config_may_be_a_plain_dict(tmp_path):
  (tmp_path / 'own.py').write_text('def get_config():\n  return {"a": {"b": 1}}\n')
  cfg = config.load_config(f'{tmp_path}/own.py', ['--config.a.b=2', '--config.a.c=true'])
  assert cfg.to_dict() == {'a': {'b': 2, 'c': True}}


def test_a_config_may_import_the_files_beside_it(tmp_path):
  """And gets its own, where another folder has files of the same name."""
  for name, value in (('one', 1), ('two', 2)):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'shared.py').write_text(f'VALUE = {value}\n')
    (tmp_path / name / 'queue.py').write_text('raise RuntimeError("in place of Python\'s")\n')
    (tmp_path / name / 'part').mkdir()
    (tmp_path / name / 'part' / 'inner.py').write_text(f'VALUE = {10 * value}\n')
    (tmp_path / name / 'own.py').write_text(
      'import queue\nimport shared\nimport part.inner\ndef get_config(kind="none"):\n'
      '  import shared as late\n'
      '  value = shared.VALUE + late.VALUE + part.inner.VALUE\n'
      '  return {"value": value, "kind": kind, "queue": queue.__name__}\n'
    )
  for name, value in (('one', 12), ('two', 24)):
    cfg = config.load_config(f'{tmp_path}/{name}/own.py:b:c')
    assert cfg.to_dict() == {'value': value, 'kind': 'b:c', 'queue': 'queue'}
  assert str(tmp_path / 'one') not in sys.path
  (tmp_path / 'one' / 'shared.py').write_text('VALUE = 5\n')
  assert config.load_config(f'{tmp_path}/one/own.py').value == 20


def test_a_folder_with_a_colon_holds_configs(tmp_path, monkeypatch):
  (tmp_path / 'a:b').mkdir()
  (tmp_path / 'a:b' / 'own.py').write_text('def get_config(x=0):\n  return {"x": x}\n')
  assert config.load_config(f'{tmp_path}/a:b/own.py').x == 0
  assert config.load_config(f'{tmp_path}/a:b/own.py:c').x == 'c'
  monkeypatch.setenv('HOME', str(tmp_path))
  assert config.load_config('~/a:b/own.py').x == 0
  with pytest.raises(ValueError, match='is a folder'):
    config.load_config(f'{tmp_path}/a:b')


def test_a_wrong_key_of_a_section_names_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'subclips'"):
    schema.call(steps.make_train_step, {'subclip': 2})


def test_a_section_takes_any_argument_of_its_function():
  given = ['--config.data.train.skip=bad.csv', '--config.clip.eval.clips=3']
  cfg = config.load_config('configs/movinet/folder.py', [*given, '--config.data.train.root=x'])
  assert cfg.data.train.to_dict() == {
    **{'name': 'folder', 'root': 'x', 'split': 'train', 'skip': 'bad.csv'}
  }
  assert schema.call(data.EvalClip, cfg.clip.eval.to_dict()).clips == 3
  cfg = config.load_config('configs/movinet/folder.py', ['--config.clip.eval.clip=3'])
  with pytest.raises(ValueError, match="has no key 'clip'; did you mean 'clips'"):
    schema.call(data.EvalClip, cfg.clip.eval.to_dict())


def test_values_may_follow_their_keys():
  given = ['--config', 'configs/movinet/folder.py', '--config.seed', '3']
  assert config.parse_config(make_parser('train', ''), given)[1].seed == 3
  with pytest.raises(SystemExit):
    config.parse_config(make_parser('train', ''), [*given, '--config.batch_size'])


def test_none_unsets_and_a_model_of_a_spec_takes_options():
  given = ['--config.clip.train.fps=None', '--config.clip.train.stride=2']
  cfg = config.load_config('configs/movinet/folder.py', given)
  clip = schema.call(data.TrainClip, cfg.clip.train.to_dict())
  assert (clip.fps, clip.stride) == (None, 2)
  given = ['--config.model.dtype=bfloat16']
  cfg = config.load_config('configs/movinet/quickstart.py', given)
  assert cfg.model.dtype == 'bfloat16'


# The reference's yaml files, one row a file: frames, stride and its range in training,
# frames in evaluation, size, short side, dropout, AutoAugment.
YAML = """
a0         50  5 1   50  172 192  0.2 yes
a1         50  5 1   50  172 192  0.5 yes
a2         50  5 1   50  224 256  0.5 yes
a3         64  2 1  120  256 288  0.5 yes
a4         32  3 1   80  290 320  0.5 yes
a5         32  2 1  120  320 368  0.5 yes
t0         25 10 0   25  160 176  0.2 no
a0-stream  50  5 0   50  172 192  0.2 no
a1-stream  50  5 0   50  172 192  0.2 no
a2-stream  50  5 0   50  224 256  0.5 no
a3-stream  64  2 0  120  256 288  0.5 no
a4-stream  32  3 1   80  290 320  0.5 yes
a5-stream  32  2 1  115  320 368  0.5 yes
t0-stream  25 10 0   25  160 176  0.2 no
"""
ROWS = [line.split() for line in YAML.strip().splitlines()]


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0])
def test_kinetics_is_trained_as_the_reference_trains(row):
  name, *integers, dropout, policy = row
  frames, stride, jitter, eval_frames, size, side = map(int, integers)
  cfg = kinetics600.get_config(name).to_dict()
  both = {'stride': stride, 'size': size}
  crop = {'area': (0.08, 1), 'aspect': (0.5, 2), 'flip': True}
  trained = {'frames': frames, 'stride_jitter': jitter, 'autoaugment': policy == 'yes'}
  assert cfg['clip'] == {
    'train': {**both, **crop, **trained},
    'eval': {**both, 'frames': eval_frames, 'short_side': side},
  }
  assert cfg['model']['dropout'] == float(dropout)
  assert cfg['eval_batch_size'] == (32 if name.startswith('a5') else 64)


@pytest.mark.parametrize('name', X3DS)
def test_an_x3d_is_trained_on_its_native_clip(name):
  """And tested on the middle of a picture 8/7 as large, as the paper's 128 / 112."""
  cfg = kinetics400.get_config(name).to_dict()
  spec = models.families()['x3d'].VARIANTS[name]
  for clip in cfg['clip'].values():
    found = clip['frames'], clip['size'], 30 / clip['fps']
    assert found == (spec.frames, spec.resolution, spec.frame_stride)
  # 160 and 312 are themselves rounded.
  assert cfg['clip']['eval']['short_side'] == pytest.approx(8 / 7 * spec.resolution, 0.01)
  # In training up to 10/7, as 160 / 112.
  least, greatest = cfg['clip']['train']['short_side']
  assert least == cfg['clip']['eval']['short_side']
  assert greatest == pytest.approx(10 / 7 * spec.resolution, abs=0.6)
  rates = {'xl': 0.1, 'xxl': 0.2}
  assert cfg['model']['stochastic_depth'] == rates.get(name.split('-')[0], 0.0)


def test_x3d_is_trained_as_its_paper_says():
  cfg = kinetics400.get_config('l').to_dict()
  assert cfg['optimizer'] == {
    **{'name': 'sgd', 'learning_rate': 1.6, 'momentum': 0.9, 'clip_norm': None},
    **{'weight_decay': 5e-5, 'warmup_steps': 8000},
  }
  assert (cfg['batch_size'], cfg['loop']['total_steps']) == (1024, 60_000)
  assert (cfg['model']['dropout'], cfg['model']['norm_group']) == (0.5, 8)
  assert (cfg['model']['mean'], cfg['model']['deviation']) == (0.45, 0.225)
  assert training.resolve(cfg, num_classes=400).norm.batches == 200


def test_kinetics_is_optimized_as_the_reference_optimizes():
  cfg = kinetics600.get_config().to_dict()
  assert cfg['optimizer'] == {
    **{'name': 'rmsprop', 'decay': 0.9, 'momentum': 0.9, 'epsilon': 1.0},
    **{'learning_rate': 1.8, 'warmup_steps': 2145, 'clip_norm': 1.0},
    'weight_decay': 3e-5,  # a gradient: of Keras' l2(1.5e-5)
  }
  assert (cfg['batch_size'], cfg['loop']['total_steps']) == (1024, 85_785)
  assert cfg['loss'] == {'name': 'softmax', 'label_smoothing': 0.1}
  assert cfg['model']['stochastic_depth'] == 0.2
  assert cfg['train']['ema_decay'] == 0.99


def test_the_loss_of_a_config_is_the_loss_of_the_step(train_command, monkeypatch, tmp_path):
  class ReachedError(Exception):
    pass

  def make_train_step(model, tx, loss, *, seed, **options):
    raise ReachedError(loss)

  monkeypatch.setattr(steps, 'make_train_step', make_train_step)
  _, *arguments = train_command(tmp_path / 'run', **{'loss.label_smoothing': 0.3})
  with pytest.raises(ReachedError) as reached:
    train.main(arguments)
  # Of logits this sure, the plain loss is 0: all that is left is of the smoothing.
  logits = jnp.asarray([[40.0, 0, 0, 0]])
  found = reached.value.args[0](logits, jnp.zeros(1, int), jnp.ones(1))
  assert float(found) == pytest.approx(0.3 * 40 * 3 / 4)


def test_changes_are_merged_into_sections():
  config_ = {'seed': 0, 'loop': {'total_steps': 9, 'rate': 1.0}, 'data': {'train': {'root': 'a'}}}
  changes = {
    'loop': {'total_steps': 3, 'rate': 2, 'log_every': 1},
    'data': {'train': {'root': 'b'}},
  }
  merged = config.merge_config(config_, changes)
  assert merged['loop'] == {'total_steps': 3, 'rate': 2.0, 'log_every': 1}
  assert type(merged['loop']['rate']) is float  # as it was
  assert merged['data']['train']['root'] == 'b'
  assert config_['loop']['total_steps'] == 9  # what was given stays as it is


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'lop': {'total_steps': 3}}, "config has no section 'lop'; did you mean 'loop'"),
    ({'sed': 3}, "config has no key 'sed'; did you mean 'seed'"),
    ({'data': {'evl': {'root': 'a'}}}, "config.data has no section 'evl'"),
  ],
)
def test_changes_of_what_is_not_there_are_errors(changes, message):
  known = {'seed': 0, 'loop': {'total_steps': 9}, 'data': {'train': {'root': 'a'}, 'eval': {}}}
  with pytest.raises(ValueError, match=message):
    config.merge_config(known, changes)


def test_what_a_workdir_records_of_a_config():
  """Defaults that results depend on, and none that stands for a key that is absent."""
  cfg = config.load_config('configs/movinet/folder.py').to_dict()
  given = {key: cfg[key] for key in cfg if key not in ('init', 'train', 'checkpoints')}
  complete = config.complete_config(training.Config, given)
  assert complete == {'init': '', 'train': {}, 'checkpoints': {}, **given}
