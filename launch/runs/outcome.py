"""The outcome of a search: found.json, its finalists, and the report."""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from launch.runs import recipe
from launch.runs.command import make_train_command
from launch.runs.inheritance import FOUND
from movinet_jax import data
from movinet_jax.spec import to_json
from movinet_jax.train import writers
from movinet_jax.train.workdir import replace_file
from nas import report
from nas.oneshot import finalists, samples

REPORT, FINALISTS = 'report.html', 'finalists'


def conclude(search, home: Path, state) -> dict:
  """Judges the found network beside others and writes what was found.

  Args:
    search: the Search that was run.
    home: its workdir.
    state: that it ended with.

  Returns:
    found.json.
  """
  settings = jax.tree.map(lambda x: x.item(), state.settings)
  policy, limits = search.make_policy(settings), search.config.finalists
  probabilities = np.asarray(policy.probabilities(state.policy))
  near, control = finalists.compare(
    _make_judge(search, state, settings),
    search.space,
    search.objective.cost,
    np.asarray(policy.most_probable(state.policy)),
    probabilities,
    limits,
    held=search.held,
  )
  mine = next(row for row in near if not row['changed'])
  found = _describe(search, mine, home / FOUND, home / 'trained')
  _write_finalists(search, home, near)
  findings = make_findings(search, home, int(state.step), found, near, control)
  report.write_report(home / REPORT, findings)
  _write_network(home / FOUND, found)  # last: it says that the search has ended
  return found


def _write_finalists(search, home: Path, near: list[Mapping]):
  """Writes the best of the found network and its neighbours, each as a file to train."""
  for old in (home / FINALISTS).glob('*.json'):  # of an earlier comparison
    old.unlink()
  for rank, row in enumerate(near[: search.config.finalists.top], 1):
    place = home / FINALISTS / f'{rank:02d}.json'
    network = _describe(search, row, place, home / f'trained-{rank:02d}')
    _write_network(place, {**network, 'rank': rank, 'changed': row['changed']})


def _write_network(path: Path, network: Mapping):
  path.parent.mkdir(exist_ok=True)
  replace_file(path, json.dumps(network, indent=2) + '\n')


def make_findings(search, home: Path, last: int, found: Mapping, near=(), control=()):
  """What a search has left in its workdir after so many steps, for a report."""
  tried, probabilities = samples.read_samples(home / 'samples', last)
  settings = {name: value.item() for name, value in search.settings.items()}
  _warn_of_samples(home, tried, last * search.config.candidates)
  relative = search.algorithm.relative
  estimate_slope = report.estimate_relative_slope if relative else report.estimate_slope
  return report.Findings(
    title=f'Search in {home}',
    command=found['train'],
    space=search.space,
    sections=(*list_sections(search), *search.algorithm.sections),
    held=search.held,
    rows=_remeasure(_read_rows(home, search.config.loop.log_every, last), tried, search.target),
    samples=tried,
    probabilities=probabilities,
    found=found,
    neighbours=near,
    control=control,
    cost=search.aim.cost,
    target=search.target,
    beta=settings['beta'],
    reward=search.objective.reward,
    slope=estimate_slope(tried, search.target),
    relative=relative,
    policy_start=search.make_policy(settings).learns_from(),
  )


def list_sections(search) -> tuple[str, ...]:
  """The sections of a report that a space of networks has for itself."""
  return tuple(getattr(search.networks, 'sections', ()))


def _make_judge(search, state, settings: Mapping) -> Callable:
  """Networks -> accuracies and rewards on the policy's videos, seen from their middle."""
  cfg, source = search.config, search.sources[1]
  size = cfg.policy_batch_size // cfg.candidates
  views = data.EvalClip(cfg.clip.frames, cfg.clip.size, stride=cfg.clip.stride, fps=cfg.clip.fps)
  loader = dataclasses.asdict(dataclasses.replace(cfg.loader, max_failed_share=1.0))
  once = max(1, len(source) // size)
  # Shuffled, as batches for training are: norms take the statistics of a batch, and one of
  # a single class would mislead.
  with data.make_batches(
    source, views, batch_size=size, seed=cfg.seed, train=True, sampling=cfg.sampling, **loader
  ) as batches:
    few = list(itertools.islice(batches, min(cfg.finalists.batches, once)))

  def reward(accuracy, choices):
    return search.objective(accuracy, choices, settings)

  return finalists.make_judge(search.net, jax.device_get(state.params), reward, few)


def _describe(search, row: Mapping, path: Path, workdir: Path) -> dict:
  """A network that can be trained by this alone, and what is known of it.

  Args:
    row: of `finalists.compare`.
    path: its file.
    workdir: where the printed command trains it.
  """
  networks, choices, cfg = search.networks, row['choices'], search.config
  measured = {'latency': search.latency['about']} if search.latency else {}
  return {
    'family': networks.family,
    'spec': to_json(networks.decode(choices)),
    'choices': networks.space.describe(choices),
    'cost': {name: int(table.count(choices)) for name, table in search.costs.items()},
    'accuracy': row['accuracy'],
    'reward': row['reward'],
    'target': {'cost': search.aim.cost, 'value': search.target},
    **measured,
    'train': make_train_command(cfg.train_with, cfg.data, path, workdir, _find_balance(cfg)),
  }


def _find_balance(cfg) -> dict:
  """How a search balanced classes, as changes to its recipe. The rest of the loss is its own."""
  whole = recipe.load(cfg.train_with, {}, cfg.data)
  weights = {key: cfg.loss[key] for key in ('class_weights', 'beta') if key in cfg.loss}
  sampling = dataclasses.asdict(cfg.sampling) if cfg.sampling else whole.get('sampling')
  return recipe.find_balance(whole, {**whole['loss'], **weights}, sampling)


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
