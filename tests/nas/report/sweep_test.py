"""The report of a sweep draws every trial where it belongs, and says what is missing."""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest

from nas import report
from nas.algorithms.expand import Expand
from nas.history import Conclusion, State, Trial
from nas.space import OneOf, Space
from tests.nas.report.browser import Page, find_layer
from tests.nas.report.examples import (
  AXES,
  LIMITS,
  NAMES,
  conclude,
  count_step_macs,
  make_evolution,
  make_expansion,
  make_image_space,
  make_scaling,
  run,
)

TITLES = {'macs': 'multiply-adds', 'latency_ns': 'latency', 'params': 'parameters'}


def read(findings) -> Page:
  return Page(report.make_report(findings))


def change(**values) -> Page:
  return read(dataclasses.replace(make_evolution(), **values))


@pytest.fixture(scope='module')
def page():
  return change()


def count(state) -> int:
  return sum(trial.state is state for trial in make_evolution().trials)


# Accuracy against cost.


def find_numbers(trials) -> list[int]:
  return [int(re.match(r'trial (\d+)', said)[1]) for said in trials['tooltip']]


@pytest.mark.parametrize('cost', TITLES)
def test_every_trial_is_drawn_once_where_it_belongs(page, cost):
  findings = make_evolution()
  assert {trial.state for trial in findings.trials} == {*State} - {State.RUNNING}
  layers = page.charts[f'Top-1 + top-5 against {TITLES[cost]}']
  wanted = [t for t in findings.trials if t.value is not None and cost in t.metrics]
  drawn = layers[0]
  assert find_numbers(drawn) == [trial.number for trial in wanted]
  np.testing.assert_allclose(drawn['x'], [t.metrics[cost] for t in wanted], rtol=1e-5)
  np.testing.assert_allclose(drawn['y'], [t.value for t in wanted], rtol=1e-5)
  assert drawn.encoding['x']['scale']['type'] == 'log'
  done = [t for t in wanted if t.state is State.DONE]
  points = {(t.metrics[cost], t.value) for t in done}
  best = sorted(
    (c, a) for c, a in points if not any((d, b) != (c, a) and d <= c and b >= a for d, b in points)
  )
  stairs = find_layer(layers, 'line')
  places = list(zip(stairs['x'], stairs['y'], strict=True))[:-1]
  np.testing.assert_allclose(places, best, rtol=1e-5)
  star = find_layer(layers, 'point', color='var(--found)')
  place = findings.best.metrics[cost], findings.best.value
  np.testing.assert_allclose([*star['x'], *star['y']], place, rtol=1e-5)
  limits = [one['x'] for one in layers if one.mark['type'] == 'rule']
  assert limits == ([[LIMITS[cost]]] if cost in LIMITS else [])


def test_pointer_over_a_dot_tells_the_trial(page):
  drawn = page.charts['Top-1 + top-5 against multiply-adds'][0]
  best = make_evolution().best
  (said,) = [text for text in drawn['tooltip'] if text.startswith(f'trial {best.number} (done):')]
  assert f'{best.value:.4f}' in said
  assert f'top-1 {best.metrics["top1"]:.3g}, top-5 {best.metrics["top5"]:.3g}, ' in said
  hollow = [fill == 'var(--paper)' for fill in drawn['fill']]
  assert sum(hollow) == count(State.PRUNED)
  assert hollow == ['(pruned)' in text for text in drawn['tooltip']]


def test_trials_that_are_not_drawn_are_counted(page):
  notes = [text for text in page.texts if 'trials are drawn' in text]
  drawn = sum(t.value is not None for t in make_evolution().trials)
  assert [note.split(' trials')[0] for note in notes] == [f'{drawn} of 128'] * 3


def test_a_cost_of_some_trials_is_drawn_of_those():
  trials = [
    dataclasses.replace(t, metrics={**t.metrics, 'latency_ns': np.nan}) if t.number % 2 else t
    for t in make_evolution().trials
  ]
  found = change(trials=trials)
  layers = found.charts['Top-1 + top-5 against latency']
  known = [x is not None for x in layers[0]['x']]
  assert known == [number % 2 == 0 for number in find_numbers(layers[0])]
  assert f'{sum(known)} of {len(trials)} trials are drawn' in found.said


# The course and the lineage of an evolution.


def test_course_has_every_value_and_the_best_so_far(page):
  findings = make_evolution()
  layers = page.charts['Top-1 + top-5 of every trial']
  valued = [t for t in findings.trials if t.value is not None]
  assert layers[0]['x'] == [t.number for t in valued]
  np.testing.assert_allclose(layers[0]['y'], [t.value for t in valued], rtol=1e-5)
  stairs, best = find_layer(layers, 'line'), -np.inf
  steps = dict(zip(stairs['x'][:-1], stairs['y'], strict=False))
  for trial in valued:
    if trial.state is State.DONE and trial.value > best:
      best = trial.value
      assert steps.pop(trial.number) == pytest.approx(best, rel=1e-5)
  assert not steps


def test_lineage_says_what_each_mutation_changed(page):
  findings = make_evolution()
  space, trials = findings.space, findings.trials
  rows = page.table('Trial', 'Mutated')
  assert len(rows) > 3
  assert rows[0]['Mutated'] == 'drawn at random'
  assert int(rows[-1]['Trial']) == findings.best.number
  for before, row in itertools.pairwise(rows):
    parent, child = trials[int(before['Trial'])], trials[int(row['Trial'])]
    assert child.note['parent'] == parent.number
    assert row['Mutated'] == child.note['mutated']
    n = space.number(row['Mutated'])
    assert parent.choices[n] != child.choices[n]
    for said, trial in ((row['Before'], parent), (row['After'], child)):
      value = space.values[n][trial.choices[n]]
      wanted = 'left out' if value is None else 'kept' if isinstance(value, dict) else str(value)
      assert said.startswith(wanted)
    assert float(row['Top-1 + top-5']) == pytest.approx(child.value, abs=1e-4)
    gain = float(row['Gain'].replace('−', '-'))
    assert gain == pytest.approx(child.value - parent.value, abs=1e-4)


# The steps of an expansion.


def test_candidates_of_each_step_are_drawn_once_where_they_belong():
  findings = make_expansion()
  facts, found = findings.conclusion.facts, []
  layers = read(findings).charts['Top-1 accuracy against multiply-adds, step by step']
  dots = find_layer(layers, 'point', size=50)
  for x, y, said in zip(dots['x'], dots['y'], dots['tooltip'], strict=True):
    step, axis, number = re.match(r'step (\d+), ([^:]+): .* trial (\d+)', said).groups()
    found.append((int(step), axis, int(number)))
    trial = findings.trials[int(number)]
    assert (x, y) == pytest.approx((count_step_macs(trial.choices), trial.value), rel=1e-5)
  contracted = [n for n in facts['targets'].values() if n['contracted']]
  assert len(contracted) == 1
  tried = {
    (n['step'], n['axis'] or 'start', n['trials'][0])
    for n in (*contracted, *(n for step in facts['steps'] for n in step['candidates']))
    if n['value'] is not None
  }
  assert sorted(found) == sorted(tried)
  assert not any(number == 5 for *_, number in found)
  stairs, steps = find_layer(layers, 'line'), facts['steps']
  np.testing.assert_allclose(stairs['x'][:-1], [s['cost'] for s in steps], rtol=1e-5)
  np.testing.assert_allclose(stairs['y'][:-1], [s['value'] for s in steps], rtol=1e-5)
  # What met a target is ringed, and each target has a line.
  assert len(find_layer(layers, 'point', size=200)['x']) == len(facts['targets']) == 2
  assert [one['x'] for one in layers if one.mark['type'] == 'rule'] == [[3.2e6], [1.6e7]]


def test_steps_and_targets_are_in_tables():
  noise = 0.012  # with which the third step, ahead by 0.030, is just undecided
  findings = make_expansion(seed_noise=noise)
  facts, found = findings.conclusion.facts, read(findings)
  for said, step in zip(found.table('Step', 'Axis'), facts['steps'], strict=True):
    assert said['Axis'] == (step['axis'] or 'start')
    assert [float(said[axis]) for axis in AXES] == list(step['factors'].values())
    assert float(said['Value']) == pytest.approx(step['value'], abs=1e-4)
    others = [n for n in step['candidates'] if n['trials'] != step['trials']]
    if known := [n for n in others if n['value'] is not None]:
      second = max(known, key=lambda n: n['value'])
      assert said['Next best'] == second['axis']
      ahead = step['value'] - second['value']
      assert float(said['Ahead by'].split()[0]) == pytest.approx(ahead, abs=1e-4)
      assert ('noise' in said['Ahead by']) == (ahead < 2 * np.sqrt(2) * noise)
  rows = {row['Target']: row for row in found.table('Target', 'Network')}
  assert rows.keys() == facts['targets'].keys()
  for name, network in facts['targets'].items():
    assert ('contracted' in rows[name]['Network']) == network['contracted']
    ratio = network['cost'] / network['target']
    assert float(rows[name]['Cost / aim']) == pytest.approx(ratio, abs=1e-3)
    assert int(rows[name]['Trials']) == network['trials'][0]


@pytest.mark.parametrize(('tolerance', 'missed'), [(0.1, False), (0.05, True)])
def test_a_target_that_is_missed_says_what_was_wanted_and_what_was_got(tolerance, missed):
  found = read(make_expansion(tolerance=tolerance))
  warned = 's: wanted 3.2M, got 3M, more than 5 % below it.'
  assert ('Targets were missed' in found.said) == (warned in found.said) == missed
  ratios = [row['Cost / aim'] for row in found.table('Target')]
  assert ratios == ['0.938', '0.970']
  layers = found.charts['Top-1 accuracy against multiply-adds, step by step']
  assert len(find_layer(layers, 'point', size=200)['x']) == 2 - missed


@pytest.mark.parametrize('most', range(0, 14))
def test_an_expansion_has_a_page_at_any_moment(most):
  findings = make_expansion(most)
  steps = findings.conclusion.facts['steps']
  wanted = f'Steps taken: {len(steps) - 1}.' if steps else 'No step has been decided'
  assert wanted in read(findings).said


def test_an_expansion_whose_start_failed_says_why():
  space = Space({axis: OneOf(choices) for axis, choices in AXES.items()})
  algorithm = Expand(space, count_step_macs, targets={'s': 3.2e6})
  failed = {'state': State.FAILED, 'reason': 'out of memory <b>'}
  found = read(conclude(algorithm, run(algorithm, lambda *_: failed)))
  assert any('has ended' in text and 'out of memory <b>' in text for text in found.texts)


# The candidates of a search for scaling coefficients.


def check_candidates(layers, facts):
  judged = [row for row in facts['candidates'] if row['mean'] is not None]
  names, best = [row['name'] for row in judged], judged[0]
  (level,) = find_layer(layers[:1], 'rule')['x']
  assert best['name'].startswith('drawn')
  assert level == pytest.approx(best['mean'], rel=1e-5)
  bars, means = find_layer(layers, 'errorbar'), find_layer(layers, 'tick')
  assert means.encoding['y']['scale']['domain'] == means['y'] == names
  np.testing.assert_allclose(means['x'], [row['mean'] for row in judged], rtol=1e-5)
  dots = find_layer(layers, 'point')
  samples = [(row, i, v) for row in judged for i, v in enumerate(row['samples']) if v is not None]
  np.testing.assert_allclose(dots['x'], [value for *_, value in samples], rtol=1e-5)
  for name, said, (row, i, value) in zip(dots['y'], dots['tooltip'], samples, strict=True):
    assert name == row['name']
    assert said == f'{name}, sample {i}: {value:.4f}'
  margins = {c['with']: c for c in facts['comparisons']}
  assert bars['y'] == list(margins)
  rows = {row['name']: row for row in judged}
  for name, place, margin in zip(bars['y'], bars['x'], bars['xError'], strict=True):
    assert place == pytest.approx(find_place(rows[name], best), abs=1e-5)
    assert margin == pytest.approx(margins[name]['margin'], abs=2e-6)
    # The bar reaches the best's mean where the difference is undecided.
    assert (abs(place - level) <= margin + 1e-6) == margins[name]['undecided']


def find_place(row, best) -> float:
  """Where a candidate's mean would be, had it and the best the same networks."""
  pairs = zip(row['samples'], best['samples'], strict=True)
  behind = [there - here for here, there in pairs if None not in (here, there)]
  return best['mean'] - np.mean(behind)


CANDIDATES = 'Top-1 accuracy of every candidate'


@pytest.mark.parametrize('noise', [0.05, 0.003])
@pytest.mark.parametrize('lead', [0.0, 0.45])
def test_samples_means_and_margins_of_candidates_are_drawn(noise, lead):
  findings = make_scaling(noise, lead=lead)
  charts, facts = read(findings).charts, findings.conclusion.facts
  for name, part in ((CANDIDATES, facts), (f'{CANDIDATES} at φ = 2', facts['recheck'])):
    rows = sorted(part['candidates'], key=lambda row: not row['name'].startswith('drawn'))
    if rows == list(part['candidates']):  # the best drawn one is first
      check_candidates(charts[name], part)
    assert len(find_layer(charts[name], 'tick')['x']) == len(rows)


def test_table_of_candidates_has_cost_ratio_mean_and_spread():
  findings = make_scaling()
  found, facts = read(findings), findings.conclusion.facts
  assert f'the mean of the best drawn: {", ".join(facts["averaged"])}.' in found.said
  tables = [t for t in found.tables if t[0][0] == 'Candidate']
  assert len(tables) == 2  # at both φ
  verdicts = {c['with']: c for c in facts['comparisons']}
  for said, wanted in zip(found.table('Candidate'), facts['candidates'], strict=True):
    assert said['Candidate'] == wanted['name']
    assert [float(said[name]) for name in NAMES] == [*wanted['coefficients'].values()]
    assert float(said['Cost / base']) == pytest.approx(wanted['ratio'], abs=1e-3)
    mean, sd = map(float, said['Mean ± sd'].split(' ± '))
    assert (mean, sd) == pytest.approx((wanted['mean'], wanted['sd']), abs=1e-4)
    assert said['Trials'] == ', '.join(map(str, wanted['trials']))
    metrics = [findings.trials[number].metrics for number in wanted['trials']]
    for name, cost, letter in (('MACs', 'macs', 'M'), ('Latency', 'latency_ns', ' ms')):
      assert said[name] == f'{np.mean([of[cost] for of in metrics]) / 1e6:.3g}{letter}'
    if wanted['name'] in verdicts:
      undecided = verdicts[wanted['name']]['undecided']
      assert said[''] == ('undecided' if undecided else 'decided')
  assert {row[tables[1][0].index('Latency')] for row in tables[1][1:]} == {'–'}
  averaged = facts['coefficients']
  assert all(found.tiles()[f'Coefficient {n}'][0] == f'{averaged[n]:.4g}' for n in NAMES)


@pytest.mark.parametrize(
  ('noise', 'lead', 'said'),
  [
    (0.2, 0.0, 'Undecided between the best candidate and a baseline'),
    (0.002, 0.0, None),
    (0.002, 0.45, 'A baseline is better than the best candidate'),
  ],
)
def test_undecided_is_said_with_numbers(noise, lead, said):
  findings = make_scaling(noise, recheck=0, lead=lead)
  found, facts = read(findings), findings.conclusion.facts
  comparison = next(c for c in facts['comparisons'] if c['with'] == 'depth <alone>')
  assert comparison['undecided'] == (noise == 0.2)
  row = next(row for row in found.table('Candidate') if row['Candidate'] == 'depth <alone>')
  gain = float(row['Behind'].replace('−', '-'))
  assert (gain, float(row['Margin'])) == pytest.approx(
    (comparison['gain'], comparison['margin']), abs=1e-4
  )
  assert row[''] == ('undecided' if comparison['undecided'] else 'decided')
  alike = re.search(
    f'As good as {facts["averaged"][0]}, as far as they tell: (.*?)\\. ', found.said
  )[1]
  named = [c['with'] for c in facts['comparisons'] if c['undecided']]
  assert alike == (', '.join(named) or 'none')
  warnings = re.findall('class="warning" role="alert"><b>([^<]*)</b>', found.text)
  assert warnings == ([said] if said else [])


def test_candidates_that_share_no_network_are_not_compared():
  findings = make_scaling(0.002)
  facts, none = findings.conclusion.facts, {'gain': None, 'margin': None, 'undecided': True}
  apart = [c | none if 'alone' in c['with'] else c for c in facts['comparisons']]
  planted = Conclusion(findings.conclusion.best, (), {**facts, 'comparisons': apart})
  found = read(dataclasses.replace(findings, conclusion=planted))
  row = next(row for row in found.table('Candidate') if row['Candidate'] == 'depth <alone>')
  assert [row['Behind'], row['Margin'], row['']] == ['–', '–', 'undecided']


def test_one_training_each_decides_nothing():
  assert 'noise is not known' in read(make_scaling(most=3)).said


@pytest.mark.parametrize('most', [0, 1, 2, 5, 14, 26, 28, 33])
@pytest.mark.parametrize('recheck', [0, 3])
def test_a_search_for_coefficients_has_a_page_at_any_moment(most, recheck):
  found = read(make_scaling(most=most, recheck=recheck))
  rechecked = 'Nothing has been trained at a larger φ' not in found.said
  assert not most or rechecked == (bool(recheck) and most > 27)


# Summary, best networks, failures, noise.


def test_tiles_say_how_the_sweep_stands(page):
  findings = make_evolution()
  tiles, best = page.tiles(), findings.best
  assert tiles['Top-1 + top-5'] == (f'{best.value:.4f}', f'best: trial {best.number}')
  assert tiles['Done'] == (str(count(State.DONE)), 'of 120 to be trained')
  for state in (State.FAILED, State.DISCARDED, State.PRUNED):
    assert tiles[state.value.capitalize()][0] == str(count(state))
  assert 'Running' not in tiles
  assert tiles['Time per trial'][0] == '1 min'
  share = best.metrics['latency_ns'] / LIMITS['latency_ns']
  assert tiles['Latency'][1] == f'{share:.2f} × limit 40 ms'


@pytest.mark.parametrize('over', [True, False])
def test_a_page_says_whether_the_search_is_over(over):
  said = read(dataclasses.replace(make_expansion(), over=over, budget=None)).said
  assert ('The sweep is over.' in said) == over
  assert ('has stopped before its end' in said) != over


def test_commands_and_specs_are_there_as_given(page):
  findings = make_evolution()
  best = findings.networks[findings.best.number]['train']
  assert [text for text in page.texts if text in (best, findings.dashboard)] == [
    best,
    findings.dashboard,
    best,  # again beside its spec
  ]
  specs = [json.loads(text) for text in page.texts if text.startswith('{')]
  wanted = [findings.networks[n]['spec'] for n in findings.conclusion.best]
  assert specs == json.loads(json.dumps(wanted))
  assert all(network['train'] in page.texts for network in findings.networks.values())
  ranked = [int(row['Trial']) for row in page.table('Rank')]
  assert ranked == list(findings.conclusion.best)


def test_failures_are_grouped_by_reason(page):
  findings, counts = make_evolution(), {}
  rows = page.table('What', 'Reason')
  for row in rows:
    counts[row['What']] = counts.get(row['What'], 0) + int(row['Count'])
  states = (State.FAILED, State.DISCARDED, State.PRUNED)
  assert counts == {state.value.capitalize(): count(state) for state in states}
  (failed,) = [row for row in rows if row['What'] == 'Failed']  # they differ in the step alone
  numbers = [t.number for t in findings.trials if t.state is State.FAILED]
  assert failed['Trials'] == ', '.join(map(str, numbers[:6])) + ', …'
  assert failed['Reason'] == findings.trials[numbers[0]].reason


def test_long_reasons_are_folded_and_whole():
  reason = 'out of memory\n' + '\n'.join(f'frame {i} <module>' for i in range(40))
  trials = [make_trial(State.FAILED, reason=reason)]
  found = change(trials=trials, conclusion=Conclusion(), networks={})
  assert '<summary>out of memory …</summary>' in found.text
  assert reason in found.texts


def test_noise_of_measured_time_is_told(page):
  trials = make_evolution().trials
  noise = [t.metrics['latency_noise'] for t in trials if 'latency_ns' in t.metrics]
  said = re.search(r'(\d+) % of its latency apart in the median, and (\d+) % at most', page.said)
  assert int(said[1]) == round(100 * np.median(noise))
  assert int(said[2]) == round(100 * max(noise))
  assert 'noise-warning' not in page.ids()
  loud = [dataclasses.replace(t, metrics={**t.metrics, 'latency_noise': 0.2}) for t in trials]
  assert 'noise-warning' in change(trials=loud).ids()


# What is missing.


def make_trial(state, number=0, **values) -> Trial:
  return Trial(number, np.zeros(len(make_image_space()), int), state=state, **values)


STATES = {
  'nothing': ([], 'No trial has begun'),
  'running': ([make_trial(State.RUNNING)], 'The sweep is still running'),
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


@pytest.mark.parametrize('sections', [('course', 'lineage'), ('expansion',), ('scaling',)])
@pytest.mark.parametrize('name', STATES)
def test_what_is_missing_is_said(sections, name):
  trials, said = STATES[name]
  best = tuple(t.number for t in trials if t.state is State.DONE)[:1]
  found = read(
    report.SweepFindings(
      'T', make_image_space(), trials, Conclusion(best, best), sections=sections, budget=9
    )
  )
  assert said in found.said
  assert not re.search(r'\bnan\b|\binf\b|NaN|Infinity', found.said)


def test_a_report_that_cannot_be_made_leaves_the_one_before(tmp_path):
  path = tmp_path / 'report.html'
  report.write_report(path, make_evolution())
  before = path.read_text('utf-8')
  child = next(t for t in make_evolution().trials if t.note)
  broken = dataclasses.replace(
    make_evolution(),
    conclusion=Conclusion((child.number,), (0, child.number)),
    trials=[
      dataclasses.replace(t, note={**t.note, 'mutated': 'no such'} if t.note else {})
      for t in make_evolution().trials
    ],
  )
  with pytest.raises(ValueError, match="no decision at 'no such'"):
    report.write_report(path, broken)
  assert path.read_text('utf-8') == before
  assert [p.name for p in tmp_path.iterdir()] == ['report.html']


def test_many_trials_make_a_page_that_is_small():
  rng = np.random.default_rng(0)
  trials = []
  for n in range(5000):
    metrics = {'macs': int(rng.uniform(1e6, 1e9)), 'latency_ns': 10**6 + n, 'params': 10**6 - n}
    trials.append(make_trial(State.DONE, n, value=float(rng.random()), metrics=metrics))
  found = read(report.SweepFindings('T', make_image_space(), trials))
  for cost in TITLES.values():
    assert len(found.charts[f'Top-1 accuracy against {cost}'][0]['x']) == 5000
  assert len(found.text.encode()) < 2_000_000
