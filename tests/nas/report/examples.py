"""Findings of made-up searches, for the tests of reports."""

import dataclasses
import functools
import re

import numpy as np

from nas import report
from nas.algorithms.evolve import Evolve
from nas.algorithms.expand import Expand
from nas.algorithms.scale import Candidate, Scale
from nas.algorithms.uniform import Uniform
from nas.history import Signal, State, Trial
from nas.oneshot.samples import Samples
from nas.space import OneOf, Space

STEPS, CANDIDATES, LOG_STEPS = 4000, 2, 20
TARGET_MACS = 300_000_000
KERNELS = ((1, 3, 3), (1, 5, 5), (3, 3, 3), (5, 1, 1))


def make_space() -> Space:
  """41 decisions: a stem, three blocks of up to four layers, and a last width."""
  layer = {'kernel': OneOf(KERNELS), 'expand': OneOf((24, 40, 64, 96), 'filters')}
  first = {**layer, 'se': OneOf((True, False))}
  layers = [first, *[OneOf((layer, None))] * 3]
  block = {'features': OneOf((16, 24, 32), 'filters'), 'layers': layers}
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
def make_search() -> report.Findings:
  """A one-shot search of 4,000 steps."""
  space, rng = make_space(), np.random.default_rng(0)
  goal = space.sample(np.random.default_rng(3))
  kept = [n for n, d in enumerate(space.decisions) if re.search(r'layers/\d$', d.path)]
  goal[kept] = [0, 0, 1, 0, 1, 1, 0, 0, 0]
  goal = space.canonical(goal)
  log_steps = np.arange(LOG_STEPS, STEPS + 1, LOG_STEPS)
  table = make_policy(space, log_steps, goal)
  samples = run_search(space, log_steps, table, rng)
  cost = int(count_macs(space, goal[None])[0])
  return report.Findings(
    title='Quickstart search',
    command='movinet train --spec=runs/search/found.json --workdir=runs/found',
    space=space,
    rows=make_rows(log_steps, samples, table),
    samples=samples,
    probabilities=(log_steps, table),
    found=make_found(space, goal, cost),
    neighbours=make_neighbours(space, goal, rng),
    control=[
      {'accuracy': a, 'reward': a - 0.01, 'cost': int(m), 'choices': goal}
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
  drawn = rng.random((len(steps), len(space), 1))
  choices = (drawn > np.cumsum(table, axis=-1)[moment]).sum(-1)
  choices = choices.clip(max=space.sizes - 1).astype(np.int8)
  cost = count_macs(space, choices)
  ratio = cost / TARGET_MACS
  accuracy = 0.25 + 0.4 * (1 - np.exp(-steps / 1200)) + 0.3 * (ratio - 1)
  accuracy = np.clip(accuracy + rng.normal(0, 0.04, len(steps)), 0, 1)
  return Samples(steps, choices, accuracy, accuracy - 0.1 * np.abs(ratio - 1), cost)


def make_rows(log_steps, samples, table) -> list[dict]:
  rows = []
  for i, step in enumerate(log_steps.tolist()):
    here = (samples.steps > step - LOG_STEPS) & (samples.steps <= step)
    row = {'step': step, 'loss': 2.3 * np.exp(-step / 1500) + 0.4}
    row |= {key: float(getattr(samples, key)[here].mean()) for key in ('accuracy', 'reward')}
    row['baseline'] = float(samples.reward[samples.steps <= step][-400:].mean())
    row['cost_ratio'] = float(samples.cost[here].mean() / TARGET_MACS)
    row['entropy'] = float(-(table[i] * np.log(np.where(table[i] > 0, table[i], 1))).sum())
    rows.append(row)
  return rows


def make_found(space, goal, cost) -> dict:
  tree = space.decode(goal)
  blocks = [
    {**block, 'stride': 2, 'layers': [{'se': True, **at} for at in block['layers'] if at]}
    for block in tree['blocks']
  ]
  spec = {'version': 1, 'stem': tree['stem'], 'blocks': blocks, 'causal': True, 'conv': '2plus1d'}
  return {
    'family': 'movinet',
    'spec': {**spec, 'project': tree['project'], 'resolution': 172},
    'choices': space.describe(goal),
    'cost': {'macs': cost, 'params': 412_345, 'state_bytes': 183_000},
    'accuracy': 0.668,
    'reward': 0.661,
  }


def make_neighbours(space, goal, rng) -> list[dict]:
  first, found = space.describe(goal), []
  cost = int(count_macs(space, goal[None])[0])
  found.append({'changed': {}, 'accuracy': 0.668, 'reward': 0.661, 'cost': cost})
  for n in np.flatnonzero(space.is_open(goal))[:14]:
    other = goal.copy()
    other[n] = (goal[n] + 1) % space.sizes[n]
    after = space.describe(other)
    changed = {k: v for k, v in after.items() if k not in first or v != first[k]}
    accuracy = 0.668 - float(rng.uniform(0, 0.03))
    cost = int(count_macs(space, other[None])[0])
    found.append({'changed': changed, 'accuracy': accuracy, 'reward': accuracy, 'cost': cost})
  return sorted(found, key=lambda row: -row['reward'])


# Sweeps.

LIMITS = {'latency_ns': 40_000_000, 'params': 4_000_000}


def make_image_space() -> Space:
  layer = {'kernel': OneOf((1, 3, 5)), 'kind': OneOf(('standard', 'depthwise'))}
  blocks = [layer, OneOf((None, layer)), OneOf((None, layer))]
  sizes = {'resolution': OneOf((96, 128, 160, 192, 224)), 'frames': OneOf((1, 2, 4, 8))}
  return Space({**sizes, 'blocks': blocks})


def judge(space: Space, number: int, choices) -> dict:
  """What becomes of a trial: made up, but costly networks are better, and some fail."""
  rng = np.random.default_rng((7, number))
  tree = space.decode(choices)
  layers = [layer for layer in tree['blocks'] if layer]
  area = sum(layer['kernel'] ** 2 for layer in layers)
  macs, params = tree['resolution'] ** 2 * tree['frames'] * area * 97, 31_000 * area * len(layers)
  metrics = {'macs': int(macs), 'params': int(params)}
  if params > LIMITS['params']:
    reason = f'params {params:,} exceed the limit {LIMITS["params"]:,}'
    return {'state': State.DISCARDED, 'metrics': metrics, 'reason': reason}
  metrics['latency_ns'] = int(1e6 + macs / 20 * rng.uniform(0.9, 1.1))
  metrics |= {'latency_noise': float(rng.uniform(0.01, 0.04)), 'secs': 60.0}
  if number % 13 == 5:
    reason = f'the loss is nan at step {number * 10}'
    return {'state': State.FAILED, 'metrics': metrics, 'reason': reason}
  top1 = float(1 / (1 + np.exp(8 - 0.45 * np.log(macs) - rng.normal(0, 0.15))))
  metrics |= {'top1': top1, 'top5': (1 + top1) / 2}
  done = {'state': State.DONE, 'value': top1 + metrics['top5'], 'metrics': metrics}
  if number % 17 == 9:
    return {**done, 'state': State.PRUNED, 'reason': 'below the median at step 100'}
  return done


def run(algorithm, judge, most=10_000) -> list[Trial]:
  """The trials that an algorithm makes, one after the other."""
  trials = []
  while len(trials) < most:
    proposal = algorithm.propose(tuple(trials), np.random.default_rng((0, len(trials))))
    if proposal is Signal.STOP:
      break
    trial = Trial(len(trials), proposal.choices, proposal.note, proposal.train)
    done = judge(algorithm.space, trial.number, trial.choices)
    trials.append(dataclasses.replace(trial, **done))
  return trials


def conclude(algorithm, trials, **values) -> report.SweepFindings:
  conclusion, space = algorithm.conclude(trials), algorithm.space
  networks = {
    n: {
      'family': 'tvn',
      'spec': space.decode(trials[n].choices),
      'train': f'movinet train --spec=runs/sweep/best/{n}.json',
    }
    for n in conclusion.best
  }
  values = {
    'title': 'Quickstart sweep',
    'sections': algorithm.sections,
    'budget': 120,
    'limits': LIMITS,
    'dashboard': 'optuna-dashboard sqlite:///runs/sweep/study.db',
    **values,
  }
  return report.SweepFindings(
    space=space, trials=trials, conclusion=conclusion, networks=networks, **values
  )


@functools.cache
def make_evolution() -> report.SweepFindings:
  algorithm = Evolve(make_image_space(), budget=120, population=30, tournament=8)
  return conclude(algorithm, run(algorithm, judge), measure='top1 + top5')


@functools.cache
def make_uniform() -> report.SweepFindings:
  algorithm = Uniform(make_image_space(), budget=40)
  return conclude(algorithm, run(algorithm, judge), measure='top1 + top5')


AXES = {
  'resolution': (112, 138, 160, 194, 224, 272, 312),
  'depth': (1.0, 1.4, 2.0, 2.8, 4.0),
  'width': (1.0, 1.4, 2.0),
}
LARGEST = 'the largest network that was wanted of this search, by as long a name as this'


def count_step_macs(choices) -> float:
  size, depth, width = (v[c] for v, c in zip(AXES.values(), choices, strict=True))
  return 1e6 * (size / 112) ** 2 * depth * width**2


def judge_step(space, number, choices) -> dict:
  if number == 5:
    return {'state': State.FAILED, 'reason': 'out of memory'}
  gains = (0.09, 0.05, 0.04)
  value = float(0.4 + sum(g * np.sqrt(c) for g, c in zip(gains, choices, strict=True)))
  metrics = {'macs': int(count_step_macs(choices)), 'top1': value}
  return {'state': State.DONE, 'value': value, 'metrics': metrics}


@functools.cache
def make_expansion(most=10_000, tolerance=0.1, **values) -> report.SweepFindings:
  space = Space({axis: OneOf(choices) for axis, choices in AXES.items()})
  targets = {'s': 3.2e6, LARGEST: 1.6e7}
  algorithm = Expand(space, count_step_macs, targets=targets, tolerance=tolerance)
  return conclude(algorithm, run(algorithm, judge_step, most), **{'limits': {}, **values})


GRID = (1.0, 1.1, 1.2, 1.4, 4.0)
NAMES = ('depth', 'width')


@functools.cache
def make_scaling(noise=0.01, most=10_000, recheck=3, lead=0.0) -> report.SweepFindings:
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
    if tree['phi'] == 1:  # nobody has measured it at the other
      metrics['latency_ns'] = int(1e7 * tree['width'] * rng.uniform(1, 2))
    return {'state': State.DONE, 'value': value, 'metrics': metrics}

  grid = [candidate(a, b) for a in GRID[1:4] for b in GRID[1:4]]
  sizes = {'sample': OneOf((0, 1, 2)), 'phi': OneOf((1.0, 2.0))}
  space = Space({**{name: OneOf(GRID) for name in NAMES}, **sizes})
  baselines = {'depth <alone>': candidate(4.0, 1.0)}
  algorithm = Scale(space, grid, baselines, draws=8, recheck=recheck, top=3)
  return conclude(algorithm, run(algorithm, judge, most), limits={})
