"""Configs of Auto-TSNet hold every row of the paper's tables, and train its native clips."""

import re

import pytest

from configs.tsnet import kinetics400, ssv2
from launch.runs import training
from movinet_jax.data import EvalClip, TrainClip
from movinet_jax.models.tsnet import VARIANTS

ALL = [(module, name) for module in (kinetics400, ssv2) for name in module.TABLE]


def test_every_named_network_has_a_row():
  named = {name for name in VARIANTS if not name.endswith('-stream')}
  assert set(kinetics400.TABLE) == named
  assert set(ssv2.TABLE) <= named


def test_the_header_prints_the_table():
  """A row is a variant, words, the paper's tables and top-1 %."""
  first, second = kinetics400.__doc__.split('10-LeftCenterRight    ')
  for column, text in enumerate((first, second)):
    rows = re.findall(r'^ +((?:manual|auto)-[\w-]+) .*[ ,]\d+ +(\d\d\.\d)$', text, re.M)
    printed = {name: float(top1) for name, top1 in rows}
    wanted = {name: row[column] for name, row in kinetics400.TABLE.items() if row[column]}
    assert printed == wanted


@pytest.mark.parametrize(('module', 'name'), ALL)
@pytest.mark.parametrize('form', ['', '-stream'])
def test_each_resolves_and_is_trained_on_its_native_clip(module, name, form):
  cfg = module.get_config(name + form).to_dict()
  spec = VARIANTS[name + form]
  assert training.resolve(cfg, num_classes=cfg['model']['num_classes'])
  for clip in cfg['clip'].values():
    assert (clip['frames'], clip['size']) == (spec.frames, spec.resolution)
  fps = cfg['clip']['eval']['fps']
  assert fps == (12.0 if module is ssv2 else 30 / spec.frame_stride)


@pytest.mark.parametrize('name', kinetics400.TABLE)
def test_pictures_are_as_large_as_the_header_says(name):
  clips = kinetics400.get_config(name).clip.to_dict()
  wanted = max(TrainClip(**clips['train']).least_side, EvalClip(**clips['eval']).least_side)
  least, large = re.search(r'in pixels: (\d+), (.*)\.\n', kinetics400.__doc__).groups()
  said = dict(re.findall(r'of ([\w-]+) (\d+)', large))
  assert wanted == int(said.get(name.removesuffix('-plain'), least))


@pytest.mark.parametrize(('module', 'videos'), [(kinetics400, 240_000), (ssv2, 169_000)])
def test_training_takes_300_epochs_at_the_printed_rate(module, videos):
  cfg = module.get_config('auto-s')
  assert cfg.loop.total_steps * cfg.batch_size == pytest.approx(300 * videos, rel=2e-3)
  assert cfg.loop.eval_every * cfg.batch_size == pytest.approx(10 * videos, rel=2e-3)
  assert cfg.optimizer.learning_rate * cfg.batch_size / 1024 == 0.4


def test_directions_are_classes_of_something_something():
  assert kinetics400.get_config('auto-s').clip.train.flip
  assert not ssv2.get_config('auto-s').clip.train.flip


@pytest.mark.parametrize('module', [kinetics400, ssv2])
def test_unknown_variants(module):
  with pytest.raises(ValueError, match="no variant 'auto-xl'; there are "):
    module.get_config('auto-xl')
