"""The report of a one-shot search says all that it found, and never invents."""

import dataclasses
import re

import numpy as np
import pytest

from nas import report
from nas.oneshot.samples import Samples
from nas.report.sections.tradeoff import MOST_POINTS
from nas.space import OneOf, Space
from tests.nas.report.browser import Page, find_layer
from tests.nas.report.examples import TARGET_MACS, make_search, make_space


def change(**values) -> Page:
  """The page of the findings with some of them changed."""
  return Page(report.make_report(dataclasses.replace(make_search(), **values)))


@pytest.fixture(scope='module')
def page():
  return change()


# Accuracy against cost.


def test_samples_and_front_are_drawn_where_they_belong(page):
  samples = make_search().samples
  layers = page.charts['Accuracy against multiply-adds']
  every = layers[0]
  places = set(zip(samples.cost.tolist(), samples.accuracy.tolist(), strict=True))
  places = {(float(f'{c:.6g}'), float(f'{a:.6g}')) for c, a in places}
  assert set(zip(every['x'], every['y'], strict=True)) <= places
  assert MOST_POINTS <= len(every['x']) < MOST_POINTS + 100
  assert [every['color'][0], every['color'][-1]] == ['var(--t0)', 'var(--t4)']
  front = report.pareto_front(samples.cost, samples.accuracy)
  marks = find_layer(layers, 'point', color='var(--front)')
  np.testing.assert_allclose(marks['x'], samples.cost[front], rtol=1e-5)
  np.testing.assert_allclose(marks['y'], samples.accuracy[front], rtol=1e-5)
  stairs = find_layer(layers, 'line', interpolate='step-after')
  np.testing.assert_allclose(stairs['x'][:-1], samples.cost[front], rtol=1e-5)
  assert find_layer(layers, 'rule')['x'] == [TARGET_MACS]


def test_found_and_random_networks_are_drawn_with_their_words(page):
  findings, layers = make_search(), page.charts['Accuracy against multiply-adds']
  star = find_layer(layers, 'point', color='var(--found)')
  assert (star['x'], star['y']) == ([float(f'{findings.found_cost:.6g}')], [0.668])
  assert star['tooltip'][0].startswith('found: 341M')
  diamonds = find_layer(layers, 'point', shape='diamond')
  np.testing.assert_allclose(diamonds['x'], [r['cost'] for r in findings.control], rtol=1e-5)
  np.testing.assert_allclose(diamonds['y'], [r['accuracy'] for r in findings.control], rtol=1e-5)


def test_many_samples_are_thinned_but_not_the_front():
  full = make_search().samples
  best = 7001  # none of those drawn evenly
  accuracy = np.array(full.accuracy)
  accuracy[best] = 0.99
  found = change(samples=dataclasses.replace(full, accuracy=accuracy))
  assert 0.99 in found.charts['Accuracy against multiply-adds'][0]['y']
  assert f'of {len(full):,} samples are drawn' in found.said


def test_control_and_neighbours_are_in_tables(page):
  findings = make_search()
  rows = {row['']: row for row in page.table('', 'Accuracy')}
  values = [row['accuracy'] for row in findings.control]
  assert float(rows['Mean']['Accuracy']) == pytest.approx(np.mean(values), abs=1e-3)
  assert float(rows['Standard deviation']['Accuracy']) == pytest.approx(
    np.std(values, ddof=1), abs=1e-3
  )
  assert rows['Found']['Accuracy'] == '0.668'
  near = page.table('Rank', 'Changed')
  assert [float(row['Reward']) for row in near] == pytest.approx(
    [row['reward'] for row in findings.neighbours], abs=1e-3
  )
  better = sum(row['reward'] > 0.661 for row in findings.neighbours)
  assert f'{better} of these have a higher reward' in page.said
  for key in ('accuracy', 'reward'):
    each = [float(row[key.capitalize()]) for row in page.table('Number')]
    assert each == pytest.approx([row[key] for row in findings.control], abs=1e-3)


# The course of the search.


def test_lines_are_what_was_logged(page):
  rows = make_search().rows
  for title, keys in {
    'Reward': ('reward', 'baseline'),
    'Accuracy on held-out batches': ('accuracy',),
    'Cost / target': ('cost_ratio',),
    'Loss of the shared weights': ('loss',),
    'Entropy of the policy': ('entropy',),
  }.items():
    lines = [one for one in page.charts[title] if one.mark['type'] == 'line']
    assert len(lines) == len(keys)
    for line, key in zip(lines, keys, strict=True):
      assert line['x'] == [row['step'] for row in rows]
      np.testing.assert_allclose(line['y'], [row[key] for row in rows], rtol=1e-5)
  assert page.charts['Cost / target'][0]['y'] == [1]  # the target


def test_many_steps_are_thinned_to_means_with_a_band():
  values = np.random.default_rng(0).random(1000)
  rows = [{'step': i, 'loss': v} for i, v in enumerate(values)]
  layers = change(rows=rows).charts['Loss of the shared weights']
  band, line = find_layer(layers, 'area'), find_layer(layers, 'line')
  assert len(line['x']) == 240
  assert np.mean(line['y']) == pytest.approx(values.mean(), abs=0.01)
  assert (min(band['y']), max(band['y2'])) == pytest.approx((values.min(), values.max()), rel=1e-5)
  assert all(a <= b <= c for a, b, c in zip(band['y'], line['y'], band['y2'], strict=True))


def test_policy_starts_where_it_is_said_to():
  rows = [{'step': s, 'reward': s / 100} for s in (10, 20, 40)]
  found = change(rows=rows, probabilities=None, policy_start=13)
  assert 'The policy learns after step 13, the upright line.' in found.said
  assert find_layer(found.charts['Reward'], 'rule')['x'] == [13]
  unknown = change(rows=rows, probabilities=None, policy_start=None)
  assert not [one for one in unknown.charts['Reward'] if one.mark['type'] == 'rule']
  assert 'policy learns' not in unknown.said


def make_small(sizes, table, **values) -> Page:
  """The page of a space of widths in three parts, and what the policy came to."""
  space = Space({'blocks': [{'width': OneOf(tuple(range(size)))} for size in sizes]})
  policy = (np.arange(1, len(table) + 1), table)
  return Page(report.make_report(report.Findings('T', 'c', space, probabilities=policy, **values)))


def test_entropy_left_is_of_what_can_be_decided():
  uniform = np.array([[[1, 0, 0], [1, 1, 0], [1, 1, 1]]], np.float32)
  uniform /= uniform.sum(-1, keepdims=True)
  found = make_small((1, 2, 3), np.repeat(uniform, 2, axis=0))
  assert found.tiles()['Entropy left'][0] == '100 %'
  half = uniform.copy()
  half[0, 1] = [1, 0, 0]
  assert make_small((1, 2, 3), half).tiles()['Entropy left'][0] == '50 %'
  alone = make_small((1, 1), np.ones((2, 2, 1)))
  assert 'Entropy left' not in alone.tiles()


# The network and its decisions.


def test_found_network_is_drawn_layer_by_layer(page):
  blocks = make_search().found['spec']['blocks']
  rows = page.table('Block')
  for row, block in zip(rows, blocks, strict=True):
    assert f'features {block["features"]}' in row['']
    for i, layer in enumerate(block['layers']):
      wanted = {'se': 'yes' if layer['se'] else 'no', 'expand': layer['expand']}
      wanted['kernel'] = '×'.join(map(str, layer['kernel']))
      said = [part for key in layer for part in (key, str(wanted[key]))]
      assert row[f'Layer {i}'].split() == said
  assert sum(len(block['layers']) for block in blocks) == 9
  assert len(page.find(class_='kernel')) == 9


def test_every_choice_of_the_space_appears(page):
  space = make_space()
  tables = [table for table in page.tables if table[0][0] == 'Decision']
  rows = [row for table in tables for row in table[1:]]
  assert len(rows) == len(space)
  words = {'kernel': ['1×3×3', '1×5×5', '3×3×3', '5×1×1'], 'se': ['yes', 'no']}
  words |= {'expand': ['24', '40', '64', '96'], 'features': ['16', '24', '32']}
  for name, entropy, *cells in rows:
    assert entropy.endswith('%')
    shares = [re.fullmatch(r'(.*): <?(\d+) % \(<?(\d+) %\)', cell) for cell in cells]
    assert [share[1] for share in shares] == words.get(
      name.split()[-1], ['kept', 'left out'] if name.startswith('layers') else ['8', '16']
    ) or name == 'project'
    assert sum(int(share[2]) for share in shares) == pytest.approx(100, abs=3)
  assert sum(len(row) - 2 for row in rows) == sum(space.sizes)
  bold = re.findall(r'<td><b>[^<]*: [^<]* %\)</b></td>', page.text)
  assert len(bold) == len(make_search().found['choices'])


def test_shares_are_those_of_the_samples_and_of_the_policy():
  space, numbers = Space({'a': OneOf(('x', 'y'))}), np.arange(1, 5)
  choices = np.array([[0], [0], [0], [1]], np.int8)
  policy = (np.array([1, 2]), np.array([[[0.5, 0.5]], [[0.1, 0.9]]]))
  samples = Samples(numbers, choices, numbers / 5, numbers / 5, numbers)
  findings = report.Findings('T', 'c', space, samples=samples, probabilities=policy)
  found = Page(report.make_report(findings))
  (table,) = [table for table in found.tables if table[0][0] == 'Decision']
  assert table[1:] == [['a', '47 %', 'x: 10 % (75 %)', 'y: 90 % (25 %)']]
  (areas,) = found.charts['Probabilities of others']
  assert areas['x'] == [1, 2, 1, 2]
  assert areas['y2'] == [0.9, 0.9, 0.5, 0.82]
  assert areas['y'] == [0.5, 0.82, 0.1, 0.1]
  assert areas.computed['tooltip'] == '["a: x", "a: y"][datum.detail]'


# The summary, and what is missing.


@pytest.mark.parametrize(
  ('beta', 'slope', 'warns'),
  [
    *((-0.1, 0.3, True), (-0.3, 0.3, False), (-0.5, 0.3, False), (-0.1, None, False)),
    *((0.0, 0.1, True), (0.0, -0.1, False), (None, 0.3, False)),
  ],
)
def test_warning_where_beta_is_below_the_slope_and_only_there(beta, slope, warns):
  found = change(beta=beta, slope=slope)
  assert ('slope-warning' in found.ids()) == warns
  if warns:
    assert float(re.search(r'β = −([\d.]+)\.', found.said)[1]) > slope


def test_a_hinge_is_judged_and_what_is_relative_is_said():
  found = change(reward='hinge', relative=True, beta=-0.1, slope=0.3)
  assert 'slope-warning' in found.ids()
  assert 'log accuracy changes by +0.300 per unit of cost ratio' in found.said
  assert 'log accuracy' not in change(reward='hinge', beta=-0.1, slope=0.3).said


def test_tiles_and_command_say_what_was_found(page):
  findings = make_search()
  assert findings.slope == pytest.approx(0.3, abs=0.02)
  tiles = page.tiles()
  assert tiles['Accuracy'][0] == '0.668'
  ratio = findings.found_cost / TARGET_MACS
  assert tiles['Multiply-adds'] == ('341M', f'{ratio:.2f} × target 300M')
  assert tiles['Networks run'] == ('8k', 'in 4k steps')
  assert findings.command in page.texts


@pytest.mark.parametrize(
  ('missing', 'said'),
  [
    ({'rows': (), 'probabilities': None}, 'No step has been logged'),
    ({'samples': None}, 'No network has been sampled'),
    ({'probabilities': None}, 'policy has not been logged'),
    ({'control': ()}, 'No random networks'),
    ({'neighbours': ()}, 'neighbors have not been measured'),
    ({'found': None}, 'No network has been found'),
    ({'slope': None}, 'is not known'),
    ({'target': None}, 'no cost target'),
    ({'reward': 'mnas'}, 'holds the target is not judged'),
  ],
)
def test_what_is_missing_is_said(page, missing, said):
  assert said not in page.said
  assert said in change(**missing).said


def test_findings_of_a_search_that_just_began():
  space = make_space()
  assert (
    'No network has been found' in Page(report.make_report(report.Findings('T', 'go', space))).said
  )
  empty, table = Samples(*np.zeros((5, 0))), np.zeros((0, len(space), 4))
  policy = (np.zeros(0), table)
  findings = report.Findings('T', 'go', space, samples=empty, probabilities=policy, found={})
  assert 'nan' not in Page(report.make_report(findings)).said


def test_one_step_and_values_that_are_not_finite():
  full = make_search()
  first = {k: getattr(full.samples, k)[:3] for k in vars(full.samples)}
  first['accuracy'] = np.array([np.nan, 0.5, np.inf])
  found = change(
    rows=[{'step': 1, 'reward': float('nan'), 'loss': 2.0, 'accuracy': None}],
    samples=Samples(**first),
    probabilities=tuple(part[:1] for part in full.probabilities),
    control=full.control[:1],
  )
  assert not re.search(r'\b(nan|inf)\b', found.said)
  assert found.charts['Accuracy against multiply-adds'][0]['y'] == [0.5]
  assert 'Reward' not in found.charts
  assert find_layer(found.charts['Loss of the shared weights'], 'line')['y'] == [2.0]


def test_a_report_that_cannot_be_made_leaves_the_one_before(tmp_path):
  path, space = tmp_path / 'report.html', Space({'a': OneOf((1, 2))})
  report.write_report(path, report.Findings('before', 'c', space))
  for broken in ({'found': {'choices': {'b': 1}}}, {'neighbours': [{'changed': {'b': 1}}]}):
    with pytest.raises(ValueError, match='another space: b is 1, the space has no such'):
      report.write_report(path, report.Findings('after', 'c', space, **broken))
  assert 'before' in path.read_text('utf-8')
  assert [p.name for p in tmp_path.iterdir()] == ['report.html']
