"""The report of a one-shot search says all that it found, opens anywhere, and never invents."""

import dataclasses
import functools
import json
import re

import numpy as np
import pytest
from PIL import Image

from nas import report
from nas.report.tradeoff import MOST_POINTS
from nas.samples import Samples
from nas.space import OneOf, Space
from tests.nas.report.browser import (
  Page,
  find_svg,
  list_numbers,
  list_texts_outside,
  measure_charts,
  open_in_browser,
)

STEPS, CANDIDATES, LOG_STEPS = 4000, 2, 20
TARGET_MACS = 300_000_000
SPEC = {'head': 2048, 'conv': '2plus1d', 'se': '2plus3d', 'activation': 'hard_swish'}
SPEC |= {'gate': 'hard_sigmoid', 'frames': 50, 'resolution': 172, 'frame_stride': 5}
KERNELS = ((1, 3, 3), (1, 5, 5), (3, 3, 3), (5, 1, 1))


def make_space() -> Space:
  """41 decisions: a stem, three blocks of up to four layers, and a last width."""
  layer = {'kernel': OneOf(KERNELS), 'expand': OneOf((24, 40, 64, 96), 'filters')}
  first = {**layer, 'se': OneOf((True, False))}
  block = {
    'features': OneOf((16, 24, 32), 'filters'),
    'layers': [first, *[OneOf((layer, None))] * 3],
  }
  return Space({'stem': OneOf((8, 16)), 'blocks': [block] * 3, 'project': OneOf((96, 128))})


def make_policy(space: Space, steps, goal) -> np.ndarray:
  """[S, D, most]: uniform for a quarter of the search, then ever surer of the goal."""
  speed = np.random.default_rng(1).uniform(2, 9, len(space))
  learned = np.clip(np.asarray(steps) / STEPS - 0.25, 0, 1)
  most = max(space.sizes)
  logits = np.zeros((len(steps), len(space), most))
  logits[:, np.arange(len(space)), goal] = learned[:, None] * speed
  logits[:, np.arange(most) >= space.sizes[:, None]] = -np.inf
  table = np.exp(logits)
  return (table / table.sum(-1, keepdims=True)).astype(np.float32)


def count_macs(space: Space, vectors) -> np.ndarray:
  """Made-up costs: every open decision adds by its number."""
  weights = np.random.default_rng(2).uniform(2e6, 6e6, len(space))
  extra = np.where(space.is_open(vectors), vectors + 1.0, 0) @ weights
  return (80_000_000 + extra).astype(np.int64)


@functools.cache
def make_findings() -> report.Findings:
  space, rng = make_space(), np.random.default_rng(0)
  goal = space.sample(np.random.default_rng(3))
  kept = [n for n, d in enumerate(space.decisions) if re.search(r'layers/\d$', d.path)]
  goal[kept] = [0, 0, 1, 0, 1, 1, 0, 0, 0]
  goal = space.canonical(goal)
  log_steps = np.arange(LOG_STEPS, STEPS + 1, LOG_STEPS)
  table = make_policy(space, log_steps, goal)
  samples = run_search(space, log_steps, table, rng)
  rows = make_rows(log_steps, samples, table)
  cost = int(count_macs(space, goal[None])[0])
  return report.Findings(
    title='Quickstart search',
    command='movinet train --spec=runs/search/found.json --workdir=runs/found',
    space=space,
    rows=rows,
    samples=samples,
    probabilities=(log_steps, table),
    found=make_found(space, goal, cost),
    neighbours=make_neighbours(space, goal, rng),
    control=[
      {'accuracy': a, 'reward': a - 0.01, 'cost': int(m)}
      for a, m in zip(rng.normal(0.6, 0.03, 24), rng.uniform(0.97, 1.03, 24) * cost, strict=True)
    ],
    target=TARGET_MACS,
    beta=-0.1,
    slope=report.estimate_slope(samples, TARGET_MACS),
    policy_start=STEPS // 4,
  )


def run_search(space, log_steps, table, rng) -> Samples:
  steps = np.repeat(np.arange(1, STEPS + 1), CANDIDATES)
  moment = np.searchsorted(log_steps, steps).clip(max=len(log_steps) - 1)
  bounds = np.cumsum(table, axis=-1)[moment]
  drawn = rng.random((len(steps), len(space), 1))
  choices = (drawn > bounds).sum(-1).clip(max=space.sizes - 1).astype(np.int8)
  cost = count_macs(space, choices)
  ratio = cost / TARGET_MACS
  accuracy = 0.25 + 0.4 * (1 - np.exp(-steps / 1200)) + 0.3 * (ratio - 1)
  accuracy = np.clip(accuracy + rng.normal(0, 0.04, len(steps)), 0, 1)
  reward = accuracy - 0.1 * np.abs(ratio - 1)
  return Samples(steps, choices, accuracy, reward, cost)


def make_rows(log_steps, samples, table) -> list[dict]:
  rows = []
  for i, step in enumerate(log_steps.tolist()):
    here = (samples.steps > step - LOG_STEPS) & (samples.steps <= step)
    inside = np.where(table[i] > 0, table[i], 1)
    rows.append(
      {
        'step': step,
        'loss': 2.3 * np.exp(-step / 1500) + 0.4,
        'accuracy': float(samples.accuracy[here].mean()),
        'reward': float(samples.reward[here].mean()),
        'baseline': float(samples.reward[samples.steps <= step][-400:].mean()),
        'cost_ratio': float(samples.cost[here].mean() / TARGET_MACS),
        'entropy': float(-(inside * np.log(inside)).sum()),
      }
    )
  return rows


def make_found(space, goal, cost) -> dict:
  tree = space.decode(goal)
  blocks = [
    {
      'features': block['features'],
      'stride': 2,
      'layers': [{'se': True, **layer} for layer in block['layers'] if layer],
    }
    for block in tree['blocks']
  ]
  spec = {'version': 1, 'stem': tree['stem'], 'blocks': blocks, 'causal': True}
  return {
    'family': 'movinet',
    'spec': {**spec, 'project': tree['project'], **SPEC},
    'choices': space.describe(goal),
    'cost': {'macs': cost, 'params': 412_345, 'state_bytes': 183_000},
    'accuracy': 0.668,
    'reward': 0.661,
  }


def make_neighbours(space, goal, rng) -> list[dict]:
  open_now = space.describe(goal)
  found = [{'choices': goal.tolist(), 'changed': {}, 'accuracy': 0.668, 'reward': 0.661}]
  for n in np.flatnonzero(space.is_open(goal))[:14]:
    other = goal.copy()
    other[n] = (goal[n] + 1) % space.sizes[n]
    path = space.decisions[n].path
    accuracy = 0.668 - float(rng.uniform(0, 0.03))
    after = space.describe(other)
    changed = {k: v for k, v in after.items() if k not in open_now or v != open_now[k]}
    found.append(
      {
        'choices': other.tolist(),
        'changed': changed,
        'accuracy': accuracy,
        'reward': accuracy,
      }
    )
    assert changed.keys() - open_now.keys() or list(changed) == [path]
  for row in found:
    row['cost'] = int(count_macs(space, np.array([row['choices']]))[0])
  return sorted(found, key=lambda row: -row['reward'])


def change(**values) -> str:
  """The page of the findings with some of them changed."""
  return report.make_report(dataclasses.replace(make_findings(), **values))


@pytest.fixture(scope='module')
def page():
  return Page(report.make_report(make_findings()))


# The slope.


def plant_samples(slope, n=4000, noise=0.05, center=1.0, drift=0.0) -> Samples:
  """Samples whose accuracy has a slope; the weights improve while the cost falls."""
  rng = np.random.default_rng(4)
  steps = np.arange(n)
  ratio = center + rng.normal(0, 0.1, n) - drift * steps / n
  accuracy = 0.5 + slope * (ratio - 1) + 0.6 * drift * steps / n
  accuracy += rng.normal(0, noise, n)
  cost = (ratio * TARGET_MACS).astype(np.int64)
  return Samples(steps, np.zeros((n, 0), np.int8), accuracy, accuracy, cost)


@pytest.mark.parametrize('slope', [0.0, 0.3, 0.9])
@pytest.mark.parametrize('drift', [0.0, 0.3])
def test_planted_slope_is_found(slope, drift):
  samples = plant_samples(slope, drift=drift)
  assert report.estimate_slope(samples, TARGET_MACS) == pytest.approx(slope, abs=0.05)


def test_drift_alone_would_mislead_a_plain_fit():
  samples = plant_samples(0.3, drift=0.3)
  ratio = samples.cost / TARGET_MACS
  assert abs(np.polyfit(ratio, samples.accuracy, 1)[0] - 0.3) > 0.2


def test_slope_of_a_search_that_settled_beside_its_target():
  samples = plant_samples(0.6, center=1.3)
  assert report.estimate_slope(samples, TARGET_MACS) == pytest.approx(0.6, abs=0.1)


def test_slope_of_the_search_in_these_tests():
  assert make_findings().slope == pytest.approx(0.3, abs=0.02)


def test_no_slope_where_samples_do_not_tell():
  assert report.estimate_slope(None, TARGET_MACS) is None
  assert report.estimate_slope(plant_samples(0.3, n=60), TARGET_MACS) is None
  assert report.estimate_slope(plant_samples(0.3, center=3.0), TARGET_MACS) is None
  noisy = plant_samples(0.3, n=400, noise=0.5)
  assert report.estimate_slope(noisy, TARGET_MACS) is None
  same = dataclasses.replace(noisy, cost=np.full(400, TARGET_MACS))
  assert report.estimate_slope(same, TARGET_MACS) is None


def test_closed_decisions_are_not_trained():
  space = Space({'layer': OneOf(({'kernel': OneOf((1, 3))}, None))})
  vectors = np.array([[0, 0], [0, 1], [1, 1], [1, 1], [1, 0]], np.int8)
  assert report.count_trained(space, vectors).tolist() == [[2, 3], [1, 1]]


# Numbers.


@pytest.mark.parametrize(
  ('cost', 'unit'), [('macs', 'G'), ('state_bytes', ' MiB'), ('latency_ns', ' s')]
)
def test_axes_of_the_page_have_equal_steps(cost, unit):
  full = make_findings()
  target = 1_000_000_000
  near = target + full.samples.cost // 20
  rows = [{'step': i, 'loss': 1.373 + i / 4000, 'cost_ratio': 1 + i / 2000} for i in (0, 40)]
  text = change(
    rows=rows,
    samples=dataclasses.replace(full.samples, cost=near),
    cost=cost,
    target=target,
    control=(),
  )
  ratio = find_svg(text, 'Cost ratio')
  axes = [
    list_numbers(find_svg(text, 'Loss'), 'end'),
    list_numbers(ratio, 'end'),
    list_numbers(ratio, 'start'),  # the second axis
    list_numbers(find_svg(text, 'Accuracy against'), 'middle'),
  ]
  units = [re.sub(r'[\d.]+', '', said[0]) for said in axes]
  assert units[:3] == ['', '', unit]
  assert units[3].endswith(unit[-1])
  for said in axes:
    values = np.array([float(re.match(r'[\d.]+', number)[0]) for number in said])
    assert len(values) >= 4
    assert np.diff(values) == pytest.approx(np.full(len(values) - 1, np.ptp(values[:2])))
    assert len({re.sub(r'\d+', '', number) for number in said}) == 1
    assert len({len(number.partition('.')[2]) for number in said}) == 1


@pytest.mark.parametrize('scale', [1e-9, 1e-3, 1, 1e6])
def test_what_is_written_in_a_chart_is_inside_of_it(scale):
  rows = [{**row, 'loss': row['loss'] * scale} for row in make_findings().rows]
  assert list_texts_outside(change(rows=rows)) == []


# The page.


def make_small(sizes, table, **values) -> str:
  """The page of a space of widths in three parts, and what the policy came to."""
  parts = [{'width': OneOf(tuple(range(size)))} for size in sizes]
  steps = np.arange(1, len(table) + 1)
  return report.make_report(
    report.Findings('T', 'c', Space({'blocks': parts}), probabilities=(steps, table), **values)
  )


def read_entropy_left(text):
  found = re.search('<span>Entropy left</span><b>(.*?)</b>', text)
  return found and found[1]


def test_entropy_left_is_of_what_can_be_decided():
  uniform = np.array([[[1, 0, 0], [1, 1, 0], [1, 1, 1]]], np.float32)
  uniform /= uniform.sum(-1, keepdims=True)
  text = make_small((1, 2, 3), np.repeat(uniform, 2, axis=0))
  assert read_entropy_left(text) == '100 %'
  name = 'Entropy left, by part, of the most possible'
  keys = re.search(f'<b>{name}</b>(.*?)</figcaption>', text)[1]
  assert re.findall('</i>(.*?)</span>', keys) == ['blocks/1', 'blocks/2']
  assert len(re.findall('class="line c', find_svg(text, name))) == 2
  half = uniform.copy()
  half[0, 1] = [1, 0, 0]
  assert read_entropy_left(make_small((1, 2, 3), half)) == '50 %'
  alone = make_small((1, 1), np.ones((2, 2, 1)))
  assert read_entropy_left(alone) is None
  assert name not in alone


def test_policy_starts_where_it_is_said_to():
  rows = [{'step': s, 'reward': s / 100, 'rl_rate': 0.1 * (s > 10)} for s in (10, 20, 40)]
  text = change(rows=rows, probabilities=None, policy_start=13)
  assert 'The policy learns after step 13, the upright line.' in text
  svg = find_svg(text, 'Reward')
  line = re.search(r'd="M([^"]*)" class="line c0"', svg)[1].split()
  start, end = (float(point.split(',')[0]) for point in (line[0], line[-1]))
  at = float(re.search(r'x1="([\d.]+)"[^>]*class="moment"', svg)[1])
  assert (at - start) / (end - start) == pytest.approx(0.1, abs=0.001)
  unknown = change(rows=rows, probabilities=None, policy_start=None)
  assert 'class="moment"' not in unknown
  assert 'policy learns' not in unknown
  before = change(rows=rows, probabilities=None, policy_start=0)
  assert 'The policy learns after step 0.' in before
  assert 'class="moment"' not in before


def test_changes_are_said_once():
  layer = {'kernel': OneOf(KERNELS), 'expand': OneOf((24, 40)), 'se': True}
  mix = OneOf(({'op': 'pool'}, {'op': 'conv', 'size': OneOf((3, 5))}))
  space = Space({'layers': [OneOf((layer, None))] * 2, 'mix': mix, 'width': OneOf((1, 2))})
  before = space.encode({'layers/0': 0, 'layers/1': 1, 'mix': 0})
  changes = {
    'layers/0 → left out': {'layers/0': 1, 'layers/1': 1},
    'layers/0:0/kernel → 1×5×5': {'layers/0:0/kernel': 1, 'layers/1': 1},
    'layers/1 → kept (kernel 3×3×3, expand 40, se yes)': {
      **{'layers/1': 0, 'layers/1:0/kernel': 2, 'layers/1:0/expand': 1}
    },
    'mix → op conv, size 5': {'layers/1': 1, 'mix': 1, 'mix:1/size': 1},
    'mix → op conv, size 3, width → 2': {'layers/1': 1, 'mix': 1, 'width': 1},
  }
  first, rows = space.describe(before), []
  for chosen in changes.values():
    after = space.describe(space.encode(chosen))
    changed = {k: v for k, v in after.items() if k not in first or first[k] != v}
    rows.append({'changed': changed, 'accuracy': 0.1, 'reward': 0.1, 'cost': 1})
  # As they are and as a file has them.
  for given in (rows, json.loads(json.dumps(rows))):
    text = report.make_report(report.Findings('T', 'c', space, neighbours=given))
    assert re.findall('<td>([^<]*→[^<]*)</td>', text) == list(changes)


@pytest.mark.parametrize('counts', [(3, 6, 3, 4), (300, 1)])
def test_equal_accuracies_of_the_control_are_stacked(counts):
  accuracy = np.repeat(0.2 + 0.1 * np.arange(len(counts)), counts)
  accuracy = np.random.default_rng(0).permutation(accuracy)
  control = [{'accuracy': a, 'reward': a, 'cost': TARGET_MACS} for a in accuracy]
  svg = find_svg(change(control=control), 'Accuracy of the random control')
  diamonds = re.findall(r'd="M([\d.]+),([\d.]+)l5,5', svg)
  assert len(set(diamonds)) == len(accuracy)
  columns = [x for x, _ in diamonds]
  assert [columns.count(x) for x in sorted(set(columns), key=float)] == list(counts)
  height = float(re.search(r'viewBox="0 0 960 ([\d.]+)', svg)[1])
  heights = [float(y) for _, y in diamonds]
  assert 0 <= min(heights) <= max(heights) <= height <= 320
  if len(counts) == 4:  # few enough to be apart
    assert np.diff(sorted(set(heights))).min() >= 10


def test_every_choice_of_the_space_appears(page):
  space = make_space()
  assert sorted(page.decisions) == sorted(d.path for d in space.decisions)
  words = {'kernel': ['1×3×3', '1×5×5', '3×3×3', '5×1×1'], 'se': ['yes', 'no']}
  words |= {'expand': ['24', '40', '64', '96'], 'features': ['16', '24', '32']}
  for path, texts in page.decisions.items():
    wanted = words.get(path.rsplit('/', 1)[-1])
    if re.search(r'layers/\d$', path):
      wanted = ['kept', 'left out']
    if wanted:
      assert [text for text in texts if text in wanted] == wanted, path
  assert sum('trained' in t for ts in page.decisions.values() for t in ts) == sum(space.sizes)


def test_shares_are_those_of_the_samples():
  space = Space({'a': OneOf(('x', 'y'))})
  choices = np.array([[0], [0], [0], [1]], np.int8)
  numbers = np.arange(1, 5)
  findings = report.Findings(
    'T',
    'c',
    space,
    samples=Samples(numbers, choices, numbers / 5, numbers / 5, numbers),
    probabilities=(np.array([1, 2]), np.array([[[0.5, 0.5]], [[0.1, 0.9]]])),
  )
  texts = Page(report.make_report(findings)).decisions['a']
  assert texts == [
    *('a', 'entropy 47 %'),
    *('x', '10 %', 'trained 75 %', 'y', '90 %', 'trained 25 %'),
  ]


def test_found_network_is_drawn_layer_by_layer(page):
  found = make_findings().found
  kept = sum(len(block['layers']) for block in found['spec']['blocks'])
  classes = [a.get('class') for tag, a in page.elements if tag == 'li']
  assert classes.count('layer') == kept
  assert classes.count('layer gone') == 3
  assert classes.count('won') == len(found['choices'])


@pytest.mark.parametrize(
  ('beta', 'slope', 'warns'),
  [
    *((-0.1, 0.3, True), (-0.3, 0.3, False), (-0.5, 0.3, False), (-0.1, None, False)),
    *((0.0, 0.1, True), (0.0, -0.1, False), (None, 0.3, False)),
  ],
)
def test_warning_where_beta_is_below_the_slope_and_only_there(beta, slope, warns):
  findings = dataclasses.replace(make_findings(), beta=beta, slope=slope)
  found = Page(report.make_report(findings))
  assert ('slope-warning' in found.ids()) == warns
  if warns:
    text = ' '.join(found.texts)
    wanted = float(re.search(r'β = −([\d.]+)\.', text)[1])
    assert wanted > slope


def test_nothing_is_loaded(page):
  assert not [t for t, _ in page.elements if t in ('script', 'img', 'iframe', 'object')]
  for tag, attributes in page.elements:
    for name in ('src', 'href', 'xlink:href', 'action', 'style'):
      value = attributes.get(name) or ''
      assert not re.search(r'//|url\(', value), (tag, name, value)
      assert tag != 'link' or name != 'href' or value == 'data:,'
  assert not re.search(r'https?:|@import|url\(', report.make_report(make_findings()))


def test_page_is_well_formed_and_ids_are_unique(page):
  assert page.open == []
  assert len(set(page.ids())) == len(page.ids())
  targets = [a['href'][1:] for tag, a in page.elements if tag == 'a']
  assert targets
  assert set(targets) <= set(page.ids())


def test_what_would_be_markup_is_text():
  nasty = '<b id="x">&amp;\'"<b>'  # without '/', which no key of a space has
  findings = report.Findings(
    title=nasty,
    command=f'movinet train --spec={nasty}',
    space=Space({nasty: OneOf((nasty, 2))}),
    rows=[{'step': 1, 'reward': 0.1}],
    found={'family': nasty, 'spec': {nasty: nasty}, 'choices': {nasty: nasty}},
    neighbours=[{'changed': {nasty: nasty}, 'accuracy': 0.1, 'reward': 0.1, 'cost': 1}],
  )
  found = Page(report.make_report(findings))
  assert 'x' not in found.ids()
  assert 'b id="x"' not in report.make_report(findings)
  assert found.texts.count(nasty) >= 4
  assert f'movinet train --spec={nasty}' in found.texts
  assert list(found.decisions) == [nasty]


@pytest.mark.parametrize(
  ('missing', 'said'),
  [
    ({'rows': (), 'probabilities': None}, 'No step has been logged'),
    ({'samples': None}, 'No network has been sampled'),
    ({'probabilities': None}, 'policy has not been logged'),
    ({'control': ()}, 'No random networks'),
    ({'neighbours': ()}, 'neighbours have not been measured'),
    ({'found': None}, 'No network has been found'),
    ({'slope': None}, 'is not known'),
    ({'target': None}, 'no cost target'),
    ({'reward': 'mnas'}, 'holds the target is not judged'),
  ],
)
def test_what_is_missing_is_said(page, missing, said):
  assert said not in ' '.join(page.texts)
  findings = dataclasses.replace(make_findings(), **missing)
  assert said in ' '.join(Page(report.make_report(findings)).texts)


def test_findings_of_a_search_that_just_began(tmp_path):
  space = make_space()
  report.write_report(tmp_path / 'r.html', report.Findings('T', 'go', space))
  empty = Samples(*np.zeros((5, 0)))
  table = np.zeros((0, len(space), 4))
  findings = report.Findings(
    'T', 'go', space, samples=empty, probabilities=(np.zeros(0), table), found={}
  )
  report.write_report(tmp_path / 'r.html', findings)
  text = (tmp_path / 'r.html').read_text('utf-8')
  assert 'nan' not in text
  assert [path.name for path in tmp_path.iterdir()] == ['r.html']


def test_one_step_and_values_that_are_not_finite():
  full = make_findings()
  first = {k: getattr(full.samples, k)[:3] for k in vars(full.samples)}
  first['accuracy'] = np.array([np.nan, 0.5, np.inf])
  findings = dataclasses.replace(
    full,
    rows=[{'step': 1, 'reward': float('nan'), 'loss': 2.0, 'accuracy': None}],
    samples=Samples(**first),
    probabilities=tuple(part[:1] for part in full.probabilities),
    control=full.control[:1],
  )
  text = report.make_report(findings)
  assert not re.search(r'="[^"]*\b(nan|inf)\b', text)
  chart = next(a for t, a in Page(text).elements if 'points' in a.get('class', ''))
  assert chart


def test_many_samples_are_thinned_but_not_the_front():
  full = make_findings()
  best = 7001  # none of those drawn evenly
  accuracy = np.array(full.samples.accuracy)
  accuracy[best] = 0.99
  samples = dataclasses.replace(full.samples, accuracy=accuracy)
  elements = Page(report.make_report(dataclasses.replace(full, samples=samples))).elements
  drawn = sum(a['d'].count('h0') for _, a in elements if a.get('class', '').startswith('points'))
  front = report.pareto_front(samples.cost, accuracy)
  assert len(samples) > MOST_POINTS < drawn <= MOST_POINTS + len(front)
  dots = [a for tag, a in elements if tag == 'circle' and a['class'] == 'dot front']
  assert best in front
  assert len(dots) == len(front)
  # All are inside of the axes.
  assert min(float(a['cy']) for a in dots) > 14


def test_findings_of_another_space_are_refused():
  full = make_findings()
  other = Space({'a': OneOf((1, 2))})
  with pytest.raises(ValueError, match=r'choices \[n, 1\], got \[8000, 41\]'):
    dataclasses.replace(full, space=other)
  with pytest.raises(ValueError, match='probabilities of this space'):
    dataclasses.replace(full, space=other, samples=None)
  findings = report.Findings('T', 'c', other, found={'choices': {'a': 3}})
  with pytest.raises(ValueError, match='of another space: a is 3'):
    report.make_report(findings)
  findings = report.Findings('T', 'c', other, neighbours=[{'changed': {'b': 1}}])
  with pytest.raises(ValueError, match='another space: b is 1, the space has no such'):
    report.make_report(findings)
  with pytest.raises(ValueError, match='arrays of one length'):
    dataclasses.replace(full.samples, cost=full.samples.cost[:-1])


def test_a_report_that_cannot_be_made_leaves_the_one_before(tmp_path):
  path = tmp_path / 'report.html'
  space = Space({'a': OneOf((1, 2))})
  report.write_report(path, report.Findings('before', 'c', space))
  with pytest.raises(ValueError, match='another space: b is 1, the space has no such'):
    report.write_report(path, report.Findings('after', 'c', space, found={'choices': {'b': 1}}))
  assert 'before' in path.read_text('utf-8')
  assert [p.name for p in tmp_path.iterdir()] == ['report.html']


def test_same_findings_same_page():
  assert report.make_report(make_findings()) == report.make_report(make_findings())


# In a browser.


@pytest.mark.slow
def test_opens_in_a_browser_without_an_error(tmp_path):
  path = tmp_path / 'report <&> 1.html'
  report.write_report(path, make_findings())
  dom, console = open_in_browser(path, tmp_path)
  assert console == []
  assert 'Quickstart search' in dom


@pytest.mark.slow
@pytest.mark.parametrize('width', [1280, 500])
def test_charts_have_a_size_and_fit_the_window(tmp_path, width):
  found = measure_charts(report.make_report(make_findings()), tmp_path, width)
  names = {name for name, *_ in found['boxes']}
  assert {
    'Reward',
    'Cost ratio and multiply-adds',
    'Loss of the shared weights',
  } < names
  assert 'Accuracy against multiply-adds' in names
  for name, across, down, marks in found['boxes']:
    assert across > 20, name
    assert down > 20, name
    assert marks > 0, name
  assert found['wide'] <= 0
  assert found['texts']
  for name, said, room, size in found['texts']:
    assert room >= 0, (name, said)
    # All but the charts that shrink with the window.
    assert size >= (11.5 if name.startswith('Entropy of blocks') else 8), (name, said)


@pytest.mark.slow
@pytest.mark.parametrize('dark', [False, True])
def test_what_is_cut_has_a_shade_and_what_fits_has_none(tmp_path, dark):
  style = re.search('<style>.*?</style>', change(), re.S)[0]
  boxes = ''.join(
    f'<div class="scroll"><div style="width:{width}px;height:40px"></div></div>'
    for width in (1400, 100)
  )
  path, shot = tmp_path / 'boxes.html', tmp_path / 'boxes.png'
  path.write_text(f'<!doctype html>{style}<body>{boxes}</body>', 'utf-8')
  flags = [f'--screenshot={shot}', '--hide-scrollbars']
  scheme = ['--blink-settings=preferredColorScheme=0'] if dark else []
  open_in_browser(path, tmp_path, 700, *flags, *scheme)
  pixels = np.asarray(Image.open(shot).convert('RGB')).astype(int)
  paper = pixels[200, 300]
  assert (paper.mean() < 60) == dark
  away = np.abs(pixels - paper).max(axis=-1)
  assert away[20, 698] > 40  # more to the right
  assert away[:90, :640].max() <= 2
  assert away[41:90].max() <= 2  # all of it is there


@pytest.mark.slow
def test_browser_tells_of_a_page_that_loads_something(tmp_path):
  text = report.make_report(make_findings())
  path = tmp_path / 'planted.html'
  path.write_text(text.replace('</body>', '<img src="https://example.com/a.png"></body>'), 'utf-8')
  _, console = open_in_browser(path, tmp_path)
  assert console
