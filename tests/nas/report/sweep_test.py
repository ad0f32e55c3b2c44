"""The report of a sweep draws every trial where it belongs, and says what is missing."""

import dataclasses
import functools
import html
import itertools
import json
import re

import numpy as np
import pytest

from nas import report
from nas.algorithms.evolve import Evolve
from nas.algorithms.expand import Expand
from nas.algorithms.scale import Candidate, Scale
from nas.algorithms.uniform import Uniform
from nas.history import Conclusion, Signal, State, Trial
from nas.report import charts, scatter
from nas.space import OneOf, Space
from tests.nas.report.browser import (
  Page,
  find_svg,
  list_texts_outside,
  measure_charts,
  open_in_browser,
  read_axes,
  read_dots,
  read_tables,
)

LIMITS = {'latency_ns': 40_000_000, 'params': 4_000_000}
TITLES = {'macs': 'multiply-adds', 'latency_ns': 'latency', 'params': 'parameters'}
ALGORITHMS = 'evolve', 'expand', 'scale', 'uniform'


def make_space() -> Space:
  layer = {'kernel': OneOf((1, 3, 5)), 'kind': OneOf(('standard', 'depthwise'))}
  return Space(
    {
      'resolution': OneOf((96, 128, 160, 192, 224)),
      'frames': OneOf((1, 2, 4, 8)),
      'blocks': [layer, OneOf((None, layer)), OneOf((None, layer))],
    }
  )


def evaluate(space: Space, number: int, choices) -> dict:
  """What becomes of a trial: made up, but dear networks are better, and some fail."""
  rng = np.random.default_rng((7, number))
  tree = space.decode(choices)
  layers = [layer for layer in tree['blocks'] if layer]
  area = sum(layer['kernel'] ** 2 for layer in layers)
  macs = int(tree['resolution'] ** 2 * tree['frames'] * area * 97)
  params = int(31_000 * area * len(layers))
  metrics = {'macs': macs, 'params': params}
  if params > LIMITS['params']:
    return {
      'state': State.DISCARDED,
      'metrics': metrics,
      'reason': f'params {params:,} exceed the limit {LIMITS["params"]:,}',
    }
  metrics |= {
    'latency_ns': int(1e6 + macs / 20 * rng.uniform(0.9, 1.1)),
    'latency_noise': float(rng.uniform(0.01, 0.04)),
    'secs': 60.0,
  }
  if number % 13 == 5:
    reason = f'the loss is nan at step {number * 10}'
    return {'state': State.FAILED, 'metrics': metrics, 'reason': reason}
  top1 = float(1 / (1 + np.exp(8 - 0.45 * np.log(macs) - rng.normal(0, 0.15))))
  metrics |= {'top1': top1, 'top5': (1 + top1) / 2}
  value = metrics['top1'] + metrics['top5']
  if number % 17 == 9:
    reason = 'below the median at step 100'
    return {
      'state': State.PRUNED,
      'value': value,
      'metrics': metrics,
      'reason': reason,
    }
  return {'state': State.DONE, 'value': value, 'metrics': metrics}


def run(algorithm, judge, most=10_000) -> list[Trial]:
  """The trials that an algorithm makes, one after the other."""
  trials = []
  while len(trials) < most:
    rng = np.random.default_rng((0, len(trials)))
    proposal = algorithm.propose(tuple(trials), rng)
    if proposal is Signal.STOP:
      break
    trial = Trial(len(trials), proposal.choices, proposal.note, proposal.train)
    done = judge(algorithm.space, trial.number, trial.choices)
    trials.append(dataclasses.replace(trial, **done))
  return trials


@functools.cache
def make_findings() -> report.SweepFindings:
  """An evolution of 120 trials."""
  algorithm = Evolve(make_space(), budget=120, population=30, tournament=8)
  trials = run(algorithm, evaluate)
  return conclude(algorithm, trials, 'evolve', measure='top1 + top5')


def conclude(algorithm, trials, name, **values) -> report.SweepFindings:
  conclusion = algorithm.conclude(trials)
  networks = {
    n: {
      'family': 'tvn',
      'spec': algorithm.space.decode(trials[n].choices),
      'train': f'movinet train --spec=runs/sweep/best/{n}.json',
    }
    for n in conclusion.best
  }
  return report.SweepFindings(
    **{
      'title': 'Quickstart sweep',
      'algorithm': name,
      'space': algorithm.space,
      'trials': trials,
      'conclusion': conclusion,
      'budget': 120,
      'limits': LIMITS,
      'networks': networks,
      'dashboard': 'optuna-dashboard sqlite:///runs/sweep/study.db',
      **values,
    }
  )


def change(**values) -> str:
  return report.make_sweep_report(dataclasses.replace(make_findings(), **values))


@pytest.fixture(scope='module')
def text():
  return report.make_sweep_report(make_findings())


# Accuracy against cost.


def check_dots(text, findings, cost):
  """Each trial that has an accuracy and a cost is drawn once, and where these say."""
  svg = find_svg(text, f'Top-1 accuracy against {TITLES[cost]}')
  wanted = [t for t in findings.trials if {'top1', cost} <= t.metrics.keys()]
  dots = read_dots(svg, 'trial')
  found = [int(re.match(r'trial (\d+)', title)[1]) for title, _, _ in dots]
  assert found == [trial.number for trial in wanted]
  x, y = read_axes(svg, log=True)
  for trial, (_, left, top) in zip(wanted, dots, strict=True):
    assert abs(left - x(trial.metrics[cost])) < 0.3, trial
    assert abs(top - y(trial.metrics['top1'])) < 0.3, trial


def check_front(text, findings, cost):
  """The front has all that is done and beaten by nothing, and nothing else."""
  svg = find_svg(text, f'Top-1 accuracy against {TITLES[cost]}')
  done = [t for t in findings.trials if t.state is State.DONE]
  points = {(t.metrics[cost], t.metrics['top1']) for t in done}
  wanted = sorted(
    (c, a) for c, a in points if not any((d, b) != (c, a) and d <= c and b >= a for d, b in points)
  )
  x, y = read_axes(svg, log=True)
  front = read_dots(svg, 'front')
  assert len(front) == len(wanted)
  for (macs, top1), (_, left, top) in zip(wanted, front, strict=True):
    assert abs(left - x(macs)) < 0.3
    assert abs(top - y(top1)) < 0.3


@pytest.mark.parametrize('cost', TITLES)
def test_every_trial_is_drawn_once_where_it_belongs(text, cost):
  states = {trial.state for trial in make_findings().trials}
  assert states == {*State} - {State.RUNNING}
  check_dots(text, make_findings(), cost)
  check_front(text, make_findings(), cost)


def test_a_dominated_point_on_the_front_is_noticed(monkeypatch):
  honest = scatter.pareto_front
  monkeypatch.setattr(
    scatter, 'pareto_front', lambda c, a: np.union1d(honest(c, a), [np.argmin(a)])
  )
  with pytest.raises(AssertionError):
    check_front(change(), make_findings(), 'macs')


def test_dots_on_another_scale_than_the_axis_says_are_noticed(monkeypatch):
  honest = charts.LogAxis.__call__
  monkeypatch.setattr(charts.LogAxis, '__call__', lambda self, values: honest(self, values) ** 1.01)
  with pytest.raises(AssertionError):
    check_dots(change(), make_findings(), 'macs')


def test_a_trial_left_out_of_the_chart_is_noticed():
  trials = list(make_findings().trials)
  last = next(t for t in reversed(trials) if t.state is State.DONE)
  trials[last.number] = dataclasses.replace(last, value=None)
  with pytest.raises(AssertionError):
    check_dots(change(trials=trials), make_findings(), 'macs')


def test_pointer_over_a_dot_tells_the_trial(text):
  svg = find_svg(text, 'Top-1 accuracy against multiply-adds')
  best = make_findings().best
  said = next(t for t, *_ in read_dots(svg, 'trial') if f'trial {best.number}:' in t)
  assert f'{best.value:.4f}' in said
  assert f'{best.metrics["top1"]:.4f}' in said
  pruned = [t for t, *_ in read_dots(svg, 'hollow')]
  assert len(pruned) == make_findings().count(State.PRUNED)
  assert all('(pruned)' in title for title in pruned)


def test_best_has_a_star_in_its_place(text):
  best = make_findings().best
  for cost, title in TITLES.items():
    svg = find_svg(text, f'Top-1 accuracy against {title}')
    corners = re.search('<path d="M([^Z"]*)Z" class="dot found"', svg)[1].split()
    middle = np.mean([[float(v) for v in c.split(',')] for c in corners], axis=0)
    x, y = read_axes(svg, log=True)
    wanted = x(best.metrics[cost]), y(best.metrics['top1'])
    np.testing.assert_allclose(middle, wanted, atol=0.3)


def test_trials_that_are_not_drawn_are_counted(text):
  trials = make_findings().trials
  for note in re.findall(r'<p class="note">([\d,]+ of .*? drawn[^<]*)</p>', text):
    drawn, total, *rest = map(int, re.findall(r'\d+', note))
    assert total == len(trials)
    assert drawn + sum(rest) == total
    assert f'{make_findings().count(State.FAILED)} failed' in note
  assert text.count(f'of {len(trials)} trials are drawn') == 3


def test_limits_are_lines_where_the_axis_says(text):
  for cost, limit in LIMITS.items():
    svg = find_svg(text, f'Top-1 accuracy against {TITLES[cost]}')
    at = float(re.search('<line x1="([^"]*)"[^>]*class="level"', svg)[1])
    assert abs(at - read_axes(svg, log=True)[0](limit)) < 0.3
  svg = find_svg(text, 'Top-1 accuracy against multiply-adds')
  assert 'class="level"' not in svg


def test_a_cost_of_some_trials_is_drawn_of_those():
  trials = [
    dataclasses.replace(t, metrics={**t.metrics, 'latency_ns': np.nan}) if t.number % 2 else t
    for t in make_findings().trials
  ]
  text = change(trials=trials)
  timed = [t for t in trials if t.value is not None and not t.number % 2]
  svg = find_svg(text, 'Top-1 accuracy against latency')
  assert len(read_dots(svg, 'trial')) == len(timed)
  assert 'without known latency' in text


def test_value_is_drawn_where_top1_is_not_known():
  trials = list(make_findings().trials)
  done = next(t for t in trials if t.state is State.DONE)
  metrics = {k: v for k, v in done.metrics.items() if k != 'top1'}
  trials[done.number] = dataclasses.replace(done, metrics=metrics)
  text = change(trials=trials)
  svg = find_svg(text, 'Top-1 \\+ top-5 against multiply-adds')
  x, y = read_axes(svg, log=True)
  for title, left, top in read_dots(svg, 'trial'):
    trial = trials[int(re.match(r'trial (\d+)', title)[1])]
    assert abs(top - y(trial.value)) < 0.3
    assert abs(left - x(trial.metrics['macs'])) < 0.3


# The course and the lineage of an evolution.


def test_course_has_every_value_and_the_best_so_far(text):
  findings = make_findings()
  svg = find_svg(text, 'Top-1 \\+ top-5 of every trial')
  x, y = read_axes(svg, log=False)
  valued = [t for t in findings.trials if t.value is not None]
  dots = read_dots(svg, 'trial')
  for trial, (_, left, top) in zip(valued, dots, strict=True):
    assert abs(left - x(trial.number)) < 0.3
    assert abs(top - y(trial.value)) < 0.3
  stairs = re.search('<path d="M([^"]*)" class="line front"', svg)[1].split()
  corners = np.array([[float(v) for v in c.split(',')] for c in stairs])
  best = -np.inf
  for trial in valued:
    if trial.state is State.DONE:
      best = max(best, trial.value)
    before = corners[corners[:, 0] <= x(trial.number) + 0.3]
    if np.isfinite(best):
      assert abs(before[-1, 1] - y(best)) < 0.3


def test_lineage_says_what_each_mutation_changed(text):
  findings = make_findings()
  space, trials = findings.space, findings.trials
  names = 'Trial', 'Mutated', 'Before', 'After', 'Top-1 + top-5', 'Gain'
  rows = dict(read_tables(text))[names]
  assert len(rows) > 3
  assert rows[0][1] == 'drawn at random'
  assert int(rows[-1][0]) == findings.best.number
  for before, row in itertools.pairwise(rows):
    parent, child = trials[int(before[0])], trials[int(row[0])]
    assert child.note['parent'] == parent.number
    assert row[1] == child.note['mutated']
    n = space.number(row[1])
    assert parent.choices[n] != child.choices[n]
    for said, trial in ((row[2], parent), (row[3], child)):
      value = space.values[n][trial.choices[n]]
      if value is None:
        assert said == 'left out'
      else:
        assert said.startswith('kept' if isinstance(value, dict) else str(value))
    assert float(row[4]) == pytest.approx(child.value, abs=1e-4)
    gain = float(row[5].replace('−', '-'))
    assert gain == pytest.approx(child.value - parent.value, abs=1e-4)


def test_uniform_search_has_its_records():
  algorithm = Uniform(make_space(), budget=40)
  trials = run(algorithm, evaluate)
  findings = conclude(algorithm, trials, 'uniform', measure='top1 + top5')
  text = report.make_sweep_report(findings)
  rows = dict(read_tables(text))['Trial', 'Top-1 + top-5', 'Gain']
  assert [int(row[0]) for row in rows] == list(findings.conclusion.path)
  values = [trials[number].value for number in findings.conclusion.path]
  assert [float(row[1]) for row in rows] == pytest.approx(values, abs=1e-4)
  gains = [float(row[2]) for row in rows[1:]]
  assert gains == pytest.approx(np.diff(values), abs=1e-4)


# The steps of an expansion.

AXES = {
  'resolution': (112, 138, 160, 194, 224, 272, 312),
  'depth': (1.0, 1.4, 2.0, 2.8, 4.0),
  'width': (1.0, 1.4, 2.0),
}


LARGEST = 'the largest network that was wanted of this search, by as long a name as this'


def count_macs(choices) -> float:
  size, depth, width = (v[c] for v, c in zip(AXES.values(), choices, strict=True))
  return 1e6 * (size / 112) ** 2 * depth * width**2


def judge_step(space, number, choices) -> dict:
  if number == 5:
    return {'state': State.FAILED, 'reason': 'out of memory'}
  gains = (0.09, 0.05, 0.04)
  value = 0.4 + sum(g * np.sqrt(c) for g, c in zip(gains, choices, strict=True))
  metrics = {'macs': int(count_macs(choices)), 'top1': value}
  return {'state': State.DONE, 'value': float(value), 'metrics': metrics}


@functools.cache
def make_expanded(most=10_000, tolerance=0.1, **values) -> report.SweepFindings:
  algorithm = Expand(
    Space({axis: OneOf(choices) for axis, choices in AXES.items()}),
    count_macs,
    targets={'s': 3.2e6, LARGEST: 1.6e7},
    tolerance=tolerance,
  )
  trials = run(algorithm, judge_step, most)
  return conclude(algorithm, trials, 'expand', **{'limits': {}, **values})


def list_tried(facts) -> set[tuple]:
  """Step, axis and trial of all networks of the steps that were trained."""
  return {
    (n['step'], n['axis'] or 'start', n['trials'][0])
    for step in facts['steps']
    for n in step['candidates']
    if n['value'] is not None
  }


def test_candidates_of_each_step_are_drawn_once_where_they_belong():
  findings = make_expanded()
  text = report.make_sweep_report(findings)
  facts = findings.conclusion.facts
  svg = find_svg(text, 'Top-1 accuracy against multiply-adds, step by step')
  x, y = read_axes(svg, log=True)
  found = []
  for title, left, top in read_dots(svg, 'candidate'):
    step, axis, number = re.match(r'step (\d+), ([^:]+): .* trial (\d+)', title).groups()
    found.append((int(step), axis, int(number)))
    trial = findings.trials[int(number)]
    assert abs(left - x(count_macs(trial.choices))) < 0.3
    assert abs(top - y(trial.value)) < 0.3
  contracted = [n for n in facts['targets'].values() if n['contracted']]
  assert len(contracted) == 1
  branches = {(n['step'], n['axis'], n['trials'][0]) for n in contracted}
  assert sorted(found) == sorted(list_tried(facts) | branches)
  assert not any(number == 5 for *_, number in found)
  check_stairs(svg, facts['steps'], x, y)
  assert list_texts_outside(text) == []
  # What met a target is ringed, and each target has a line.
  assert len(read_dots(svg, 'ring')) == len(facts['targets']) == 2
  lines = [float(at) for at in re.findall('<line x1="([^"]*)"[^>]*class="level"', svg)]
  np.testing.assert_allclose(lines, x([3.2e6, 1.6e7]), atol=0.3)


def check_stairs(svg, steps, x, y):
  """The line goes up at each accepted network's cost to its value."""
  corners = re.search('<path d="M([^"]*)" class="line front"', svg)[1].split()
  corners = [tuple(float(v) for v in corner.split(',')) for corner in corners]
  for step, corner in zip(steps, corners[::2], strict=True):
    np.testing.assert_allclose(corner, (x(step['cost']), y(step['value'])), atol=0.3)
  for before, after, corner in zip(steps, steps[1:], corners[1::2], strict=False):
    np.testing.assert_allclose(corner, (x(after['cost']), y(before['value'])), atol=0.3)


def test_steps_and_targets_are_in_tables():
  noise = 0.012  # with which the third step, ahead by 0.030, is just undecided
  findings = make_expanded(seed_noise=noise)
  facts = findings.conclusion.facts
  text = report.make_sweep_report(findings)
  tables = dict(read_tables(text))
  names = ('Step', 'Axis', *AXES, 'Cost', 'Growth', 'Value', 'Next best', 'Ahead by')
  assert len(tables[names]) == len(facts['steps'])
  for row, step in zip(tables[names], facts['steps'], strict=True):
    said = dict(zip(names, row, strict=True))
    assert said['Axis'] == (step['axis'] or 'start')
    assert [float(said[axis]) for axis in AXES] == list(step['factors'].values())
    assert float(said['Value']) == pytest.approx(step['value'], abs=1e-4)
    others = [n for n in step['candidates'] if n['trials'] != step['trials']]
    known = [n for n in others if n['value'] is not None]
    if known:
      second = max(known, key=lambda n: n['value'])
      assert said['Next best'] == second['axis']
      ahead = step['value'] - second['value']
      assert float(said['Ahead by'].split()[0]) == pytest.approx(ahead, abs=1e-4)
      assert ('noise' in said['Ahead by']) == (ahead < 2 * np.sqrt(2) * noise)
  # In bold what a step has changed; here that is one factor.
  bold = re.findall('<td class="number"><b>([^<]*)</b></td>', text)
  assert [float(value) for value in bold] == [
    step['factors'][step['axis']] for step in facts['steps'][1:]
  ]
  target = ('Target', 'Network', 'Aim', 'Cost', 'Cost / aim', 'Value', *AXES, 'Trials')
  rows = {row[0]: dict(zip(target, row, strict=True)) for row in tables[target]}
  assert rows.keys() == facts['targets'].keys()
  for name, network in facts['targets'].items():
    assert ('contracted' in rows[name]['Network']) == network['contracted']
    ratio = network['cost'] / network['target']
    assert float(rows[name]['Cost / aim']) == pytest.approx(ratio, abs=1e-3)
    assert int(rows[name]['Trials']) == network['trials'][0]


@pytest.mark.parametrize(('tolerance', 'missed'), [(0.1, False), (0.05, True)])
def test_a_target_that_is_missed_says_what_was_wanted_and_what_was_got(tolerance, missed):
  findings = make_expanded(tolerance=tolerance)
  text = report.make_sweep_report(findings)
  said = ' '.join(Page(text).texts)
  warned = 's: wanted 3.2M, got 3M, more than 5 % below it.'
  assert ('A target was missed' in said) == (warned in said) == missed
  assert ('s wanted 3.2e+06 and got 3.00032e+06' in said) == missed
  rows = next(rows for names, rows in read_tables(text) if names[0] == 'Target')
  assert [row[4] for row in rows] == ['0.938 (missed)' if missed else '0.938', '0.970']
  assert text.count('class="ring"') == 2 - missed


@pytest.mark.parametrize('most', range(0, 14))
def test_an_expansion_has_a_page_at_any_moment(most):
  findings = make_expanded(most)
  text = report.make_sweep_report(findings)
  assert Page(text).open == []
  assert list_texts_outside(text) == []
  steps = findings.conclusion.facts['steps']
  wanted = f'Steps taken: {len(steps) - 1}.' if steps else 'No step has been decided'
  assert wanted in text


@pytest.mark.parametrize('over', [True, False])
def test_a_page_says_whether_the_search_is_over(over):
  findings = dataclasses.replace(make_expanded(), over=over, budget=None)
  text = ' '.join(Page(report.make_sweep_report(findings)).texts)
  assert ('The sweep is over.' in text) == over
  assert ('has stopped before its end' in text) != over


def test_an_expansion_whose_start_failed_says_why():
  space = Space({axis: OneOf(choices) for axis, choices in AXES.items()})
  algorithm = Expand(space, count_macs, targets={'s': 3.2e6})
  failed = {'state': State.FAILED, 'reason': 'out of memory <b>'}
  findings = conclude(algorithm, run(algorithm, lambda *_: failed), 'expand')
  texts = Page(report.make_sweep_report(findings)).texts
  assert any('has ended' in text and 'out of memory <b>' in text for text in texts)


# The candidates of a search for scaling coefficients.

GRID = (1.0, 1.1, 1.2, 1.4, 4.0)
NAMES = ('depth', 'width')


@functools.cache
def make_scaled(noise=0.01, most=10_000, recheck=3, lead=0.0) -> report.SweepFindings:
  """A search among eight candidates; the baseline's networks are better by the lead.

  The fourth of them has no first network.
  """

  def candidate(depth, width):
    coefficients = dict(zip(NAMES, (depth, width), strict=True))
    return Candidate(coefficients, depth * width**2, f'{depth} {width}')

  def judge(space, number, choices) -> dict:
    rng = np.random.default_rng((2, number))
    tree = space.decode(choices)
    value = 0.5 - abs(tree['depth'] - 1.2) / 9 - abs(tree['width'] - 1.2) / 5
    value = float(value + rng.normal(0, noise) + lead * (tree['depth'] == 4))
    if number == 3:
      return {'state': State.FAILED, 'reason': 'the loss is nan'}
    metrics = {'macs': int(1e8 * tree['depth'] * tree['phi']), 'top1': value}
    if tree['phi'] == 1:  # at the other nobody has measured it
      metrics['latency_ns'] = int(1e7 * tree['width'] * rng.uniform(1, 2))
    return {'state': State.DONE, 'value': value, 'metrics': metrics}

  grid = [candidate(a, b) for a in GRID[1:4] for b in GRID[1:4]]
  algorithm = Scale(
    Space(
      {
        **{name: OneOf(GRID) for name in NAMES},
        'sample': OneOf((0, 1, 2)),
        'phi': OneOf((1.0, 2.0)),
      }
    ),
    grid,
    {'depth <alone>': candidate(4.0, 1.0)},
    draws=8,
    recheck=recheck,
    top=3,
  )
  trials = run(algorithm, judge, most)
  return conclude(algorithm, trials, 'scale', limits={})


def read_rows(svg) -> dict[str, float]:
  """Names of candidates -> the middle of their row."""
  found = re.findall(r'<text x="[^"]*" y="([^"]*)" class="tick" text-anchor="end">([^<]*)<', svg)
  return {html.unescape(name): float(y) - 4 for y, name in found}


def read_scale(svg):
  """The place that the axis below all rows gives to a value."""
  found = re.findall(r'<text x="([^"]*)" y="[^"]*" class="tick" text-anchor="middle">([^<]*)<', svg)
  places, values = np.array(found, float).T
  slope, start = np.polyfit(values, places, 1)
  np.testing.assert_allclose(start + slope * values, places, atol=0.2)
  return lambda value: start + slope * np.asarray(value)


def check_candidates(svg, facts):
  rows, x = read_rows(svg), read_scale(svg)
  judged = [row for row in facts['candidates'] if row['mean'] is not None]
  assert list(rows) == [row['name'] for row in judged]
  dots = iter(read_dots(svg, 'sample'))
  margins = {c['with']: c for c in facts['comparisons']}
  level = float(re.search('<line x1="([^"]*)"[^>]*class="level"', svg)[1])
  best = next(row for row in judged if row['name'].startswith('drawn'))
  assert abs(level - x(best['mean'])) < 0.3
  for row in judged:
    at = rows[row['name']]
    for number, value in enumerate(row['samples']):
      if value is None:
        continue
      title, left, top = next(dots)
      said = f'{row["name"]}: mean {row["mean"]:.4f} of {row["n"]}; sample {number}: '
      assert title.startswith(said)
      assert abs(left - x(value)) < 0.3
      assert abs(top - at) < 0.2
    thin = rf'<line x1="([^"]*)" y1="{at:.1f}" x2="([^"]*)" [^>]*class="line thin'
    ends = [float(end) for end in re.search(thin, svg).groups()]
    assert abs(ends[0] - x(find_place(row, best))) < 0.3
    if row['name'] in margins:  # the line reaches the best's as it is undecided
      found = margins[row['name']]
      reaches = min(ends) - 0.3 <= level <= max(ends) + 0.3
      assert reaches == found['undecided']
      assert abs(abs(ends[1] - ends[0]) - (x(found['margin']) - x(0))) < 0.3
  assert next(dots, None) is None


def find_place(row, best) -> float:
  """Where a candidate's mean would be, had it and the best the same networks."""
  pairs = zip(row['samples'], best['samples'], strict=True)
  behind = [there - here for here, there in pairs if None not in (here, there)]
  if len(behind) == row['n'] == best['n']:
    assert best['mean'] - np.mean(behind) == pytest.approx(row['mean'])
  return best['mean'] - np.mean(behind)


@pytest.mark.parametrize('noise', [0.05, 0.003])
@pytest.mark.parametrize('lead', [0.0, 0.45])
def test_samples_means_and_margins_of_candidates_are_drawn(noise, lead):
  findings = make_scaled(noise, lead=lead)
  text, facts = report.make_sweep_report(findings), findings.conclusion.facts
  name = 'Top-1 accuracy of every candidate'
  check_candidates(find_svg(text, f'{name}"'), facts)
  check_candidates(find_svg(text, f'{name} at φ = 2"'), facts['recheck'])
  assert list_texts_outside(text) == []


def test_a_margin_of_another_size_is_noticed():
  findings = make_scaled(0.05)
  facts = findings.conclusion.facts
  wrong = [{**c, 'margin': c['margin'] / 2} for c in facts['comparisons']]
  planted = Conclusion(findings.conclusion.best, (), {**facts, 'comparisons': wrong})
  text = report.make_sweep_report(dataclasses.replace(findings, conclusion=planted))
  with pytest.raises(AssertionError):
    check_candidates(find_svg(text, 'Top-1 accuracy of every candidate"'), facts)


def test_table_of_candidates_has_cost_ratio_mean_and_spread():
  findings = make_scaled()
  text, facts = report.make_sweep_report(findings), findings.conclusion.facts
  names = ('Candidate', *NAMES, 'Cost / base', 'MACs', 'Latency', 'Mean ± sd')
  names += ('Networks', 'Behind', 'Margin', '', 'Trials')
  bold = re.findall('<td><b>(drawn [^<]*)</b></td>', text)
  assert bold[:3] == facts['averaged']
  tables = [rows for name, rows in read_tables(text) if name == names]
  assert len(tables) == 2  # at both φ
  verdicts = {c['with']: c for c in facts['comparisons']}
  for row, wanted in zip(tables[0], facts['candidates'], strict=True):
    said = dict(zip(names, row, strict=True))
    assert said['Candidate'] == wanted['name']
    assert [float(said[name]) for name in NAMES] == [*wanted['coefficients'].values()]
    assert float(said['Cost / base']) == pytest.approx(wanted['ratio'], abs=1e-3)
    mean, sd = map(float, said['Mean ± sd'].split(' ± '))
    assert mean == pytest.approx(wanted['mean'], abs=1e-4)
    assert sd == pytest.approx(wanted['sd'], abs=1e-4)
    assert said['Trials'] == ', '.join(map(str, wanted['trials']))
    metrics = [findings.trials[number].metrics for number in wanted['trials']]
    for name, cost, unit, letter in (
      ('MACs', 'macs', 1e6, 'M'),
      ('Latency', 'latency_ns', 1e6, ' ms'),
    ):
      mean = np.mean([of[cost] for of in metrics])
      assert said[name] == f'{mean / unit:.3g}{letter}'
    if wanted['name'] in verdicts:
      found = verdicts[wanted['name']]
      assert said[''] == ('undecided' if found['undecided'] else 'decided')
  assert {row[names.index('Latency')] for row in tables[1]} == {'–'}
  averaged = facts['coefficients']
  assert all(read_tiles(text)[f'Coefficient {n}'][0] == f'{averaged[n]:.4g}' for n in NAMES)


@pytest.mark.parametrize(
  ('noise', 'lead', 'said'),
  [
    (0.2, 0.0, 'Undecided between the best candidate and a baseline'),
    (0.002, 0.0, None),
    (0.002, 0.45, 'A baseline is better than the best candidate'),
  ],
)
def test_undecided_is_said_with_numbers(noise, lead, said):
  findings = make_scaled(noise, recheck=0, lead=lead)
  text, facts = report.make_sweep_report(findings), findings.conclusion.facts
  comparison = next(c for c in facts['comparisons'] if c['with'] == 'depth <alone>')
  assert comparison['undecided'] == (noise == 0.2)
  line = next(t for t in Page(text).texts if t.startswith('depth <alone>: '))
  assert re.search(rf'\b{facts["averaged"][0]}\b', line)
  assert f'{abs(comparison["gain"]):.4f}' in line
  assert f'{comparison["margin"]:.4f}' in line
  assert ('undecided' in line) == comparison['undecided']
  assert ('worse' in line) == (lead > 0)
  warnings = re.findall('class="warning" role="note"><b>([^<]*)</b>', text)
  assert warnings == ([said] if said else [])


def test_candidates_that_share_no_network_are_not_compared():
  findings = make_scaled(0.002)
  facts = findings.conclusion.facts
  apart = [
    c | {'gain': None, 'margin': None, 'undecided': True} if 'alone' in c['with'] else c
    for c in facts['comparisons']
  ]
  planted = Conclusion(findings.conclusion.best, (), {**facts, 'comparisons': apart})
  text = report.make_sweep_report(dataclasses.replace(findings, conclusion=planted))
  best = facts['averaged'][0]
  said = f'depth <alone>: undecided, it shares no network with {best}.'
  assert said in Page(text).texts
  _, rows = next(table for table in read_tables(text) if table[0][0] == 'Candidate')
  (row,) = [row for row in rows if row[0] == 'depth <alone>']
  assert row[-4:-1] == ['–', '–', 'undecided']


def test_one_training_each_decides_nothing():
  text = report.make_sweep_report(make_scaled(most=3))
  assert 'noise is not known' in text


@pytest.mark.parametrize('most', [0, 1, 2, 5, 14, 26, 28, 33])
@pytest.mark.parametrize('recheck', [0, 3])
def test_a_search_for_coefficients_has_a_page_at_any_moment(most, recheck):
  findings = make_scaled(most=most, recheck=recheck)
  text = report.make_sweep_report(findings)
  assert Page(text).open == []
  assert list_texts_outside(text) == []
  rechecked = 'Nothing has been trained at a larger φ' not in text
  assert not most or rechecked == (bool(recheck) and most > 27)


# Summary, best networks, failures, noise.


def read_tiles(text) -> dict[str, tuple[str, str]]:
  found = re.findall('<span>([^<]*)</span><b>([^<]*)</b><small>([^<]*)</small>', text)
  return {name: (value, more) for name, value, more in found}


def test_tiles_say_how_the_sweep_stands(text):
  findings = make_findings()
  tiles = read_tiles(text)
  best = findings.best
  name = 'Best top-1 + top-5'
  assert tiles[name] == (f'{best.value:.4f}', f'trial {best.number}')
  assert tiles['Done'] == (str(findings.count(State.DONE)), 'of 120 to be trained')
  for state in (State.FAILED, State.DISCARDED, State.PRUNED):
    assert tiles[state.value.capitalize()][0] == str(findings.count(state))
  assert 'Running' not in tiles
  assert tiles['Time per trial'][0] == '1 min'
  share = best.metrics['latency_ns'] / LIMITS['latency_ns']
  assert tiles['Latency'][1] == f'{share:.2f} × limit 40 ms'


def test_commands_and_specs_are_there_as_given(text):
  findings = make_findings()
  blocks = [html.unescape(b) for b in re.findall('<pre[^>]*>(.*?)</pre>', text, re.S)]
  assert blocks[0] == findings.networks[findings.best.number]['train']
  assert blocks[1] == findings.dashboard
  specs = [json.loads(block) for block in blocks if block.startswith('{')]
  as_json = json.loads(json.dumps([findings.networks[n]['spec'] for n in findings.conclusion.best]))
  assert specs == as_json
  for network in findings.networks.values():
    assert network['train'] in blocks


def test_failures_are_grouped_by_reason(text):
  rows = dict(read_tables(text))['What', 'Reason', 'Count', 'Trials']
  findings = make_findings()
  counts = {what: 0 for what, *_ in rows}
  for what, _, count, _ in rows:
    counts[what] += int(count)
  assert counts == {
    'Failed': findings.count(State.FAILED),
    'Discarded': findings.count(State.DISCARDED),
    'Pruned': findings.count(State.PRUNED),
  }
  failed = [row for row in rows if row[0] == 'Failed']
  assert len(failed) == 1  # they differ in the step alone
  numbers = [t.number for t in findings.trials if t.state is State.FAILED]
  assert failed[0][3] == ', '.join(map(str, numbers[:6])) + ', …'
  assert failed[0][1] == findings.trials[numbers[0]].reason


def test_long_reasons_are_folded_and_whole():
  reason = 'out of memory\n' + '\n'.join(f'frame {i} <module>' for i in range(40))
  trials = [make_trial(State.FAILED, reason=reason)]
  text = change(trials=trials, conclusion=Conclusion(), networks={})
  assert '<summary>out of memory</summary>' in text
  assert html.escape(reason) in text


def test_noise_of_measured_time_is_told(text):
  noise = [t.metrics['latency_noise'] for t in make_findings().trials if 'latency_ns' in t.metrics]
  said = re.search(r'(\d+) % of its latency apart in the median, and (\d+) % at most', text)
  assert int(said[1]) == round(100 * np.median(noise))
  assert int(said[2]) == round(100 * max(noise))
  assert 'id="noise-warning"' not in text
  loud = [
    dataclasses.replace(t, metrics={**t.metrics, 'latency_noise': 0.2})
    for t in make_findings().trials
  ]
  assert 'id="noise-warning"' in change(trials=loud)


# The page.


def test_what_would_be_markup_is_text():
  nasty = '<b id="x">&amp;\'"<b>'
  space = Space({nasty: OneOf((nasty, 2))})
  metrics = {'macs': 10, 'top1': 0.1}
  trials = [
    Trial(0, np.array([0]), state=State.DONE, value=0.1, metrics=metrics),
    Trial(1, np.array([1]), state=State.FAILED, reason=nasty),
    Trial(2, np.array([1]), state=State.DISCARDED, reason=f'{nasty}\n{nasty}'),
    Trial(
      3,
      np.array([1]),
      {'parent': 0, 'mutated': nasty},
      state=State.DONE,
      value=0.2,
      metrics=metrics,
    ),
  ]
  network = {'family': nasty, 'spec': {nasty: nasty}, 'train': nasty}
  findings = report.SweepFindings(
    title=nasty,
    algorithm='evolve',
    space=space,
    trials=trials,
    conclusion=Conclusion((3,), (0, 3)),
    measure=nasty,
    networks={3: network},
    dashboard=nasty,
  )
  text = report.make_sweep_report(findings)
  page = Page(text)
  assert 'b id="x"' not in text
  assert 'x' not in page.ids()
  assert page.texts.count(nasty) >= 6


def test_page_is_well_formed_and_loads_nothing(text):
  page = Page(text)
  assert page.open == []
  assert len(set(page.ids())) == len(page.ids())
  targets = [a['href'][1:] for tag, a in page.elements if tag == 'a']
  assert set(targets) <= set(page.ids())
  assert not [t for t, _ in page.elements if t in ('script', 'img', 'iframe', 'object')]
  assert not re.search(r'https?:|@import|url\(', text)
  assert list_texts_outside(text) == []


def make_trial(state, number=0, **values) -> Trial:
  return Trial(number, make_space().sample(np.random.default_rng(0)), **values).__class__(
    number, np.zeros(len(make_space()), int), state=state, **values
  )


STATES = {
  'nothing': ([], 'No trial has begun'),
  'running': ([make_trial(State.RUNNING)], 'The sweep goes on'),
  'failed': ([make_trial(State.FAILED, reason='oom')], 'none has been trained'),
  'discarded': (
    [make_trial(State.DISCARDED, metrics={'params': 7}, reason='params')],
    'none has been trained',
  ),
  'no cost': ([make_trial(State.DONE, value=0.5)], 'not drawn against it'),
  'no latency': (
    [make_trial(State.DONE, value=0.5, metrics={'macs': 5, 'params': 6})],
    'No latency has been measured',
  ),
  'not finite': (
    [
      make_trial(State.DONE, value=float('nan'), metrics={'macs': 5}),
      make_trial(State.DONE, 1, value=0.5, metrics={'macs': float('inf')}),
      make_trial(State.DONE, 2, value=float('inf'), metrics={'latency_ns': 0}),
    ],
    'not drawn against it',
  ),
  'noise unknown': (
    [make_trial(State.DONE, value=0.5, metrics={'latency_ns': 5, 'secs': 1})],
    'their noise has not',
  ),
  'pruned': (
    [make_trial(State.PRUNED, value=0.5, metrics={'macs': 5}, reason='slow')],
    'none has been trained',
  ),
}


@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('name', STATES)
def test_what_is_missing_is_said(algorithm, name):
  trials, said = STATES[name]
  best = tuple(t.number for t in trials if t.state is State.DONE)[:1]
  findings = report.SweepFindings(
    'T', algorithm, make_space(), trials, Conclusion(best, best), budget=9
  )
  text = report.make_sweep_report(findings)
  assert said in ' '.join(Page(text).texts)
  assert not re.search(r'="[^"]*\b(nan|inf)\b', text)
  assert not re.search(r'\bnan\b|\binf\b', ' '.join(Page(text).texts[1:]))


def test_findings_of_another_search_are_refused():
  full = make_findings()
  with pytest.raises(ValueError, match='got 1 in place 0'):
    dataclasses.replace(full, trials=full.trials[1:])
  with pytest.raises(ValueError, match='whole numbers'):
    dataclasses.replace(full, space=Space({'a': OneOf((1, 2))}))
  with pytest.raises(ValueError, match='it names 3, there are 2'):
    report.SweepFindings('T', 'evolve', full.space, full.trials[:2], conclusion=Conclusion((3,)))
  with pytest.raises(ValueError, match=r"one of macs, params.*'latncy'"):
    dataclasses.replace(full, limits={'latncy': 3})


def test_a_report_that_cannot_be_made_leaves_the_one_before(tmp_path):
  path = tmp_path / 'report.html'
  report.write_sweep_report(path, make_findings())
  before = path.read_text('utf-8')
  child = next(t for t in make_findings().trials if t.note)
  broken = dataclasses.replace(
    make_findings(),
    conclusion=Conclusion((child.number,), (0, child.number)),
    trials=[
      dataclasses.replace(t, note={**t.note, 'mutated': 'no such'} if t.note else {})
      for t in make_findings().trials
    ],
  )
  with pytest.raises(ValueError, match="no decision at 'no such'"):
    report.write_sweep_report(path, broken)
  assert path.read_text('utf-8') == before
  assert [p.name for p in tmp_path.iterdir()] == ['report.html']


def test_many_trials_make_a_page_that_opens():
  rng = np.random.default_rng(0)
  trials = [
    make_trial(
      State.DONE,
      n,
      value=float(rng.random()),
      metrics={'macs': int(rng.uniform(1e6, 1e9)), 'latency_ns': 10**6 + n},
    )
    for n in range(5000)
  ]
  findings = report.SweepFindings('T', 'uniform', make_space(), trials)
  text = report.make_sweep_report(findings)
  assert text.count('<title>trial ') == 3 * 5000
  assert len(text) < 4_000_000


# In a browser.


@pytest.mark.slow
@pytest.mark.parametrize('width', [1280, 500])
@pytest.mark.parametrize('make', [make_findings, make_expanded, make_scaled])
def test_opens_in_a_browser_and_fits_it(tmp_path, make, width):
  path = tmp_path / 'sweep.html'
  report.write_sweep_report(path, make())
  dom, console = open_in_browser(path, tmp_path)
  assert console == []
  assert 'Quickstart sweep' in dom
  found = measure_charts(path.read_text('utf-8'), tmp_path, width)
  # Against each known cost, and those of the path.
  assert len(found['boxes']) == {make_findings: 4, make_expanded: 2, make_scaled: 4}[make]
  assert found['wide'] <= 0
  for name, across, down, marks in found['boxes']:
    assert min(across, down) > 90, name
    assert marks > 20, name
  for name, said, room, size in found['texts']:
    assert room >= 0, (name, said)
    assert size >= 9, (name, said)
