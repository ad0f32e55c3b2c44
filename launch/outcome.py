"""What a search ends with: found.json, its finalists, and the report."""

import itertools
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from launch import config as configs
from launch import parts
from launch.plan import Plan
from movinet_jax import data
from movinet_jax.spec import to_json
from movinet_jax.train import writers
from movinet_jax.train.workdir import replace_file
from nas import finalists, oneshot, report, samples

FOUND, REPORT, FINALISTS = 'found.json', 'report.html', 'finalists'


def conclude(cfg: Mapping, home: Path, plan: Plan, state, source) -> dict:
  """Judges the found network beside others and writes what was found.

  Args:
    state: that the search ended with.
    source: the policy's part of the data.

  Returns:
    found.json.
  """
  settings = jax.tree.map(lambda x: x.item(), state.settings)
  policy = oneshot.make_policy(plan.space, settings)
  chosen = np.asarray(policy.most_probable(state.policy))
  near, control = finalists.compare(
    _make_judge(cfg, plan, state, settings, source),
    plan.space,
    plan.objective.cost,
    chosen,
    np.asarray(policy.probabilities(state.policy)),
    plan.limits,
  )
  mine = next(row for row in near if not row['changed'])
  common = {'target': {'cost': plan.aim, 'value': settings['target']}}
  if plan.latency:
    common['latency'] = plan.latency['about']
  train = {'train': make_command(cfg, home / FOUND, home / 'trained')}
  found = {**_describe(plan, mine), **common, **train}
  _write(home / FOUND, found)
  for old in (home / FINALISTS).glob('*.json'):  # of an earlier comparison
    old.unlink()
  for rank, row in enumerate(near[: plan.limits.top], 1):
    path = home / FINALISTS / f'{rank:02d}.json'
    train = {'train': make_command(cfg, path, home / f'trained-{rank:02d}')}
    changed = {'rank': rank, 'changed': row['changed']}
    _write(path, {**_describe(plan, row), **common, **changed, **train})
  tried, probabilities = samples.read_samples(home / 'samples', int(state.step))
  _warn_of_samples(home, tried, int(state.step) * cfg['candidates'])
  rows = _read_rows(home, cfg['loop'].get('log_every', 100), int(state.step))
  findings = report.Findings(
    title=f'Search in {home}',
    command=found['train'],
    space=plan.space,
    rows=_remeasure(rows, tried, settings['target']),
    samples=tried,
    probabilities=probabilities,
    found=found,
    neighbours=near,
    control=control,
    cost=plan.aim,
    target=settings['target'],
    beta=settings['beta'],
    reward=plan.objective.reward,
    slope=report.estimate_slope(tried, settings['target']),
    policy_start=int(policy.count_steps(policy.delay)),
  )
  report.write_report(home / REPORT, findings)
  return found


def _make_judge(cfg, plan, state, settings, source):
  """Networks -> accuracies and rewards on the policy's videos, seen from their middle."""
  clip, size = plan.clip, cfg['policy_batch_size'] // cfg['candidates']
  views = data.EvalClip(clip.frames, clip.size, stride=clip.stride, fps=clip.fps)
  once = max(1, len(source) // size)
  # Shuffled, as batches for training are: norms take the statistics of a batch, and one of
  # a single class would mislead.
  with parts.call(
    data.make_batches,
    {**cfg['loader'], 'max_failed_share': 1.0},
    source=source,
    clip=views,
    batch_size=size,
    seed=cfg['seed'],
    train=True,
  ) as batches:
    few = list(itertools.islice(batches, min(plan.limits.batches, once)))

  def reward(accuracy, choices):
    return plan.objective(accuracy, choices, settings)

  return finalists.make_judge(plan.net, jax.device_get(state.params), reward, few)


def _describe(plan: Plan, row: Mapping) -> dict:
  """A network that can be trained by this alone, and what is known of it."""
  space, choices = plan.net.space, row['choices']
  return {
    'family': 'movinet',
    'spec': to_json(space.decode(choices)),
    'choices': space.space.describe(choices),
    'cost': {name: int(table.count(choices)) for name, table in plan.costs.items()},
    'accuracy': row['accuracy'],
    'reward': row['reward'],
  }


def _write(path: Path, network: Mapping):
  path.parent.mkdir(exist_ok=True)
  replace_file(path, json.dumps(network, indent=2) + '\n')


def make_command(cfg, spec: Path, workdir: Path) -> str:
  """What trains a network on the data that was searched on.

  It is evaluated on `data.eval`, which a search itself does not read; without one, on what
  `train_with` says of the same place.
  """
  words = ['movinet', 'train', f'--config={cfg["train_with"]}', f'--spec={spec}']
  return shlex.join([*words, f'--workdir={workdir}', *list_overrides(cfg)])


def list_overrides(cfg: Mapping) -> list[str]:
  """What tells a training config where the data of a search is."""
  sections = {'train': dict(cfg['data']['train']), 'eval': cfg['data'].get('eval')}
  if sections['eval'] is None:
    own = ('split', 'path', 'skip')
    sections['eval'] = {k: v for k, v in sections['train'].items() if k not in own}
  return [
    f'--config.data.{section}.{key}={value}'
    for section, values in sections.items()
    for key, value in values.items()
  ]


def warn_of_command(cfg: Mapping):
  """Says so now if the command that will train the result could not open its data."""
  try:
    recipe = configs.load(cfg['train_with'], list_overrides(cfg)).to_dict()
    parts.open_sources(recipe['data'])
  except (ValueError, OSError, data.SourceError) as error:
    print(
      f'Note: train_with={cfg["train_with"]} could not train on this data: {error}. Take '
      'a recipe for it, or say data.eval (which a search does not read)',
      file=sys.stderr,
    )


def _warn_of_samples(home, tried, wanted: int):
  there = 0 if tried is None else len(tried)
  if there != wanted:
    print(
      f'Note: {home / "samples"} holds {there:,} of the {wanted:,} networks that were '
      'tried: the report is of those',
      file=sys.stderr,
    )


def _read_rows(home: Path, every: int, last: int) -> list[dict]:
  """What was logged when due, each step once: a run that was stopped has also logged where
  it stopped, and some steps twice."""
  rows = {}
  for row in writers.read_rows(home):
    due = row['step'] == last or (every and row['step'] % every == 0)
    if due and 'reward' in row:
      rows[row['step']] = row
  return [rows[step] for step in sorted(rows)]


def _remeasure(rows, tried, target) -> list[dict]:
  """Rows with the exact means of all networks since the row before.

  A run that went on after a stop has logged the means of those since then.
  """
  if tried is None:
    return rows
  found, before = [], 0
  for row in rows:
    here = (tried.steps > before) & (tried.steps <= row['step'])
    before = row['step']
    if not here.any():
      found.append(row)
      continue
    means = {
      'reward': tried.reward[here].mean(),
      'accuracy': tried.accuracy[here].mean(),
      'cost_ratio': tried.cost[here].mean() / target,
    }
    found.append({**row, **jax.tree.map(float, means)})
  return found
