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
    ('tvn/1', 'Moments in Time', 23.1, None),
    ('tsnet/auto-s', 'Kinetics-400', 75.4, 30),
    ('tsnet/manual-70', 'Kinetics-400', 73.2, 10),
  ],
)
def test_the_result_to_quote_first(name, dataset, accuracy, views):
  first = published.find_results(name)[0]
  assert (first.dataset, first.accuracy, first.views) == (dataset, accuracy, views)


MOVINET, TVN, TSNET = 'MoViNet, supplement, ', 'TVN, ', 'Auto-TSNet, '
# Of the rows of each table: how many, and sums of accuracies, top-5, GFLOPs, M parameters, views.
SUMS = {
  'MoViNet, README of the released checkpoints': (13, 1032.78, 1130.93, 931.4, 0, 13),
  'MoViNet, comment in the released training file': (2, 135.57, 0, 0, 0, 2),
  MOVINET + 'Table 2': (5, 399.3, 0, 0, 0, 5),
  MOVINET + 'Table 4': (8, 588, 0, 764.99, 75.4, 8),
  MOVINET + 'Table 5': (9, 692.1, 837.7, 481.12, 50.9, 9),
  MOVINET + 'Table 6': (7, 471.4, 0, 847.93, 69.8, 7),
  MOVINET + 'Table 7': (8, 280.2, 0, 627.2, 74.6, 8),
  MOVINET + 'Table 8': (3, 144.2, 0, 402.99, 41.1, 3),
  MOVINET + 'Table 9': (7, 437.2, 619.6, 61.92, 30.3, 7),
  'PyTorchVideo, model zoo': (4, 295.83, 365.93, 37.23, 17.52, 120),
  'X3D, Table 2': (6, 451.3, 550.7, 205, 48.66, 60),
  'X3D, Table 4': (4, 313, 373.7, 273.5, 41.2, 120),
  'X3D, Table 5': (2, 160.7, 190, 54.6, 14.8, 60),
  'X3D, Table 6, begun from Kinetics-600': (1, 47.1, 0, 48.4, 11, 30),
  'X3D, Table 6, begun from Kinetics-400': (1, 43.4, 0, 48.4, 11, 30),
  'X3D, section 4.1': (1, 47.75, 0, 0.02067, 1.63, 10),
  TSNET + 'Table 3': (6, 461.1, 0, 55.5, 58, 180),
  TSNET + 'Table 4': (2, 145.2, 0, 0, 0, 20),
  TSNET + 'Table 5': (3, 219.5, 0, 5.9, 16.3, 30),
  TSNET + 'Table 6': (1, 70.2, 0, 1.4, 0, 10),
  TSNET + 'Table 7': (4, 288.8, 0, 0, 0, 40),
  TSNET + 'Table 8': (5, 366, 0, 11.54, 40.5, 50),
  TSNET + 'Table 11': (2, 125.9, 0, 0, 0, 0),
  TVN + 'Table 1': (4, 100.5, 0, 205, 234.7, 0),
  TVN + 'Table 2': (4, 191.2, 0, 0, 0, 0),
  TVN + 'Table 3': (4, 133.6, 0, 205, 0, 0),
  TVN + 'Table 4': (4, 292.1, 0, 0, 0, 0),
  TVN + 'Table 5': (3, 68.71, 0, 33.1, 22.1, 0),
  TVN + 'Table 7': (2, 46.9, 0, 0, 0, 0),
  TVN + 'Table 8': (6, 143.2, 0, 0, 0, 0),
}
# Of latencies: how many, and sums of milliseconds a clip and a frame.
TIMES = {
  (MOVINET + 'Table 2', 'NVIDIA V100'): (8, 6661, 84.8),
  ('MoViNet, README of the released checkpoints, TF Lite', 'Intel Xeon W-2135, one core'): (
    6,
    0,
    985,
  ),
  ('MoViNet, README of the released checkpoints, TF Lite', 'Pixel 4, one core'): (3, 0, 264),
  (TVN + 'Table 1', 'Intel Xeon, 2.9 GHz'): (4, 589, 0),
  (TVN + 'Table 1', 'NVIDIA V100'): (4, 58, 0),
  (TVN + 'Table 5', 'Intel Xeon, 2.9 GHz'): (3, 157, 0),
  (TVN + 'Table 7', 'Intel Xeon, 2.9 GHz'): (2, 340, 0),
  (TVN + 'Table 7', 'NVIDIA V100'): (2, 73, 0),
  (TVN + 'Table 8', 'Intel Xeon, 2.9 GHz'): (6, 1196, 0),
  (TVN + 'Table 8', 'NVIDIA V100'): (6, 280, 0),
}


def sum_rows(rows, group, *columns):
  """How many rows each group has, and the sum of each column over them."""
  found = {}
  for row in rows:
    numbers = (1, *(getattr(row, column) or 0 for column in columns))
    found[group(row)] = [
      a + b for a, b in zip(found.get(group(row), [0] * 9), numbers, strict=False)
    ]
  return found


def test_all_rows_add_up_to_the_tables():
  """No number changes unseen: each is a part of a sum that was taken from the tables."""
  columns = ('accuracy', 'top5', 'gmacs', 'mparams', 'views')
  found = sum_rows(RESULTS, lambda row: row.source, *columns)
  assert found == {source: pytest.approx(sums) for source, sums in SUMS.items()}
  found = sum_rows(LATENCIES, lambda row: (row.source, row.device), 'clip_ms', 'frame_ms')
  assert found == {source: pytest.approx(sums) for source, sums in TIMES.items()}


def test_what_no_source_prints_is_unknown():
  assert {row.source for row in RESULTS if row.views is None} == {
    TSNET + 'Table 11',
    *(TVN + f'Table {number}' for number in (1, 2, 3, 4, 5, 7, 8)),
  }
  unsized = [row for row in RESULTS if row.clip and row.clip[1] is None]
  assert [row.network for row in unsized] == ['x3d/m', 'x3d/xl']
  assert {row.clip[0] for row in unsized} == {50}
  # Tables that have no GFLOPs or no parameters are no source of them.
  for row in RESULTS:
    if row.source in (TVN + 'Table 2', TVN + 'Table 4', TSNET + 'Table 11'):
      assert row.gmacs is row.mparams is None
    if row.params_source:
      assert row.mparams
      assert row.source in (TVN + 'Table 1', TSNET + 'Table 5')


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
