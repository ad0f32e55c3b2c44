"""Published results and latencies: each belongs to a named network, and some are pinned here."""

import dataclasses

import pytest

from configs.movinet import kinetics600
from configs.tsnet import kinetics400 as tsnet
from configs.x3d import kinetics400 as x3d
from movinet_jax import models, published
from movinet_jax.published import LATENCIES, RESULTS


@pytest.mark.parametrize('rows', [RESULTS, LATENCIES])
def test_rows_belong_to_networks(rows):
  """Names and fields are ones that `create` takes, and no row is there twice."""
  for row in rows:
    assert row.network in models.variants()
    if row.fields:
      models.create(row.network, **row.fields)
  texts = [repr(row) for row in rows]
  assert len(set(texts)) == len(texts)


def test_results_are_percentages_of_one_kind():
  for row in RESULTS:
    assert 0 < row.accuracy < 100
    assert (row.top1 is None) != (row.mean_ap is None)
    assert row.top5 is None or row.top1 < row.top5 < 100
    assert row.metric == ('mAP' if row.dataset in ('Charades', 'MLB') else 'top-1')


@pytest.mark.parametrize(
  ('name', 'dataset', 'accuracy', 'views'),
  [
    ('movinet/a0', 'Kinetics-600', 72.28, 1),
    ('movinet/a0-stream', 'Kinetics-600', 72.05, 1),
    ('movinet/a5-stream', 'Kinetics-600', 82.37, 1),
    ('movinet/t0-stream', 'Kinetics-600', 67.17, 1),
    ('ensemble/a6', 'Kinetics-600', 84.8, 1),
    ('x3d/s', 'Kinetics-400', 73.33, 30),
    ('x3d/xxl', 'Kinetics-400', 80.0, 10),
    ('tvn/1', 'Moments in Time', 23.1, 1),
    ('tsnet/auto-s', 'Kinetics-400', 75.4, 30),
    ('tsnet/manual-70', 'Kinetics-400', 73.2, 10),
  ],
)
def test_the_result_to_quote_first(name, dataset, accuracy, views):
  first = published.find_results(name)[0]
  assert (first.dataset, first.accuracy, first.views) == (dataset, accuracy, views)


def test_networks_without_results():
  for name in ('movinet/a0-printed', 'x3d/s-stream', 'ensemble/a7-stream'):
    assert published.find_results(name) == published.find_latencies(name) == []


def test_the_papers_stream_stands_behind_the_released_one():
  rows = published.find_results('movinet/a2-stream')
  assert [(row.top1, bool(row.differs)) for row in rows if row.dataset == 'Kinetics-600'] == [
    (78.40, False),
    (76.5, True),
  ]
  assert all(row.fields == {'causal': True} for row in rows if row.differs)


def test_published_accuracies_are_those_of_the_configs():
  """The header of the config of Kinetics-600 prints them too."""
  lines = [line.split() for line in kinetics600.__doc__.splitlines()]
  for suffix, column in (('', 'base'), ('-stream', 'stream')):
    (values,) = [line[1:] for line in lines if line[:1] == [column] and len(line) == 7]
    for name, value in zip(('a0', 'a1', 'a2', 'a3', 'a4', 'a5'), values, strict=True):
      assert published.find_results(f'movinet/{name}{suffix}')[0].top1 == float(value)


def test_latencies():
  found = published.find_latencies('movinet/a0-stream')
  assert {row.device: row.frame_ms for row in found} == {
    'NVIDIA V100': 3.7,
    'Intel Xeon W-2135, one core': 16,
    'Pixel 4, one core': 22,
  }
  assert {row.device: row.clip_ms for row in published.find_latencies('tvn/4')} == {
    'Intel Xeon, 2.9 GHz': 402,
    'NVIDIA V100': 19,
  }


@pytest.mark.parametrize('row', [row for row in LATENCIES if row.clip_ms and row.frame_ms])
def test_a_clip_takes_its_frames(row):
  """Both columns of the table are printed, a frame's with one decimal."""
  assert row.frame_ms == pytest.approx(row.clip_ms / row.frames, abs=0.06)


@pytest.mark.parametrize(
  ('name', 'fields', 'gmacs', 'mparams'),
  [
    ('movinet/a0', {}, 2.71, 3.1),
    ('movinet/a0', {'causal': True}, 2.73, 3.1),
    ('movinet/a5', {}, 281, 15.7),
    ('ensemble/a6', {}, 386, 31.4),
    ('x3d/m', {}, 4.73, 3.76),
    ('tvn/4', {}, 106, 44.2),
    ('tsnet/auto-s', {}, 2.46, 8.6),
  ],
)
def test_printed_costs_of_a_network(name, fields, gmacs, mparams):
  row = published.find_cost(models.create(name, **fields))
  assert (row.gmacs, row.mparams) == (gmacs, mparams)


def test_printed_costs_with_the_classes_of_another_data_set():
  assert published.find_cost(models.create('movinet/a4', 400)).mparams == 5.9
  assert published.find_cost(models.create('movinet/a4', 5)) is None


@pytest.mark.parametrize('name', ['movinet/a0-stream', 'x3d/s-stream'])
def test_networks_without_printed_costs(name):
  assert published.find_cost(models.create(name)) is None


def test_short_sides_are_those_of_the_configs():
  for family, module, names in (
    ('movinet', kinetics600, kinetics600.TABLE),
    ('x3d', x3d, x3d.TABLE),
    ('tsnet', tsnet, ('auto-s', 'auto-m-plain', 'auto-l', 'auto-s-sparse')),
  ):
    for name in names:
      short_side = module.get_config(name).clip.eval.short_side
      assert published.find_short_side(f'{family}/{name}') == short_side, name
  assert published.find_short_side('movinet/a0-printed-stream') == 192
  assert published.find_short_side('ensemble/a7-stream') == 368
  assert published.find_short_side('tvn/1') is None


def test_a_row_is_plain_data():
  """`movinet models --json` writes it."""
  assert dataclasses.asdict(RESULTS[0])['network'] in models.variants()
