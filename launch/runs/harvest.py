"""The harvest of a sweep so far: found.json, the networks to train further, and the report."""

import json
import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from launch.runs import latencies, recipe
from launch.runs.command import make_train_command
from launch.runs.sweep import Sweep
from movinet_jax.spec import to_json
from movinet_jax.train.workdir import replace_file
from nas import report
from nas.history import Conclusion, Signal, State, Trial
from nas.trials.database import parse_address, show_address

FOUND, REPORT = 'found.json', 'report.html'


def write(sweep: Sweep, home: Path, trials: Sequence[Trial], storage: str) -> dict:
  """Writes what the algorithm makes of the trials, finished or not.

  Args:
    home: its workdir.
    storage: URL of the study, for the command that shows it.

  Returns:
    found.json: what was found, and if any network was trained, the best as an
    architecture file.
  """
  cfg, algorithm = sweep.config, sweep.algorithm
  trials = latencies.keep_one_machine(trials)
  conclusion = algorithm.conclude(trials)
  networks = _write_networks(sweep, home, trials, conclusion)
  found = {
    'search': cfg.algorithm['name'],
    'measure': sweep.measure,
    'trials': Counter(one.state for one in trials),
    'facts': conclusion.facts,
    'path': conclusion.path,
  }
  if conclusion.best:
    found = {**networks[conclusion.best[0]], **found}
  replace_file(home / FOUND, json.dumps(found, indent=2) + '\n')
  findings = report.SweepFindings(
    title=f'{cfg.study} in {home}',
    space=sweep.space.space,
    trials=trials,
    conclusion=conclusion,
    sections=getattr(algorithm, 'sections', report.SECTIONS),
    budget=getattr(algorithm, 'budget', None),
    over=_is_over(algorithm, trials),
    measure=sweep.measure,
    limits=dict(cfg.limits.items()),
    networks=networks,
    seed_noise=find_seed_noise(trials),
    dashboard=f'optuna-dashboard {shlex.quote(show_address(parse_address(storage)))}',
  )
  report.write_report(home / REPORT, findings)
  return found


def _write_networks(sweep: Sweep, home: Path, trials, conclusion: Conclusion) -> dict:
  """Number of a trial -> what is known of its network; a file for each, best first."""
  networks, folder, space = {}, home / 'found', sweep.space
  for rank, number in enumerate(conclusion.best, 1):
    one, path = trials[number], folder / f'{rank:02d}.json'
    spec = space.decode(one.choices)
    path.parent.mkdir(exist_ok=True)
    networks[number] = {
      'family': space.family,
      'spec': to_json(spec),
      'trial': number,
      'choices': space.space.describe(one.choices),
      'measure': sweep.measure,
      'value': one.value,
      'metrics': dict(one.metrics),
      'train': make_command(sweep, spec, path, home / f'trained-{rank:02d}'),
    }
    replace_file(path, json.dumps(networks[number], indent=2) + '\n')
  for old in folder.glob('*.json'):  # of an earlier harvest
    if old.stem.isdecimal() and int(old.stem) > len(conclusion.best):
      old.unlink(missing_ok=True)  # another machine may be at it as well
  return networks


def _is_over(algorithm, trials: Sequence[Trial]) -> bool:
  """Tells whether the algorithm has nothing left to try, which does not depend on chance."""
  try:
    return algorithm.propose(trials, np.random.default_rng(0)) is Signal.STOP
  except ValueError:  # it finds nothing to propose
    return False


def find_seed_noise(trials: Sequence[Trial]) -> float | None:
  """Standard deviation of the value of networks trained again with other seeds, pooled."""
  groups = defaultdict(list)
  for one in trials:
    if one.state is State.DONE:
      rest = {key: value for key, value in one.train.items() if key != 'seed'}
      groups[json.dumps([np.asarray(one.choices).tolist(), rest])].append(one.value)
  freedom = sum(len(values) - 1 for values in groups.values())
  if not freedom:
    return None
  return math.sqrt(sum(np.var(v) * len(v) for v in groups.values()) / freedom)


def make_command(sweep: Sweep, spec, path: Path, workdir: Path) -> str:
  """Makes the command that trains a network by the whole recipe, at its own clip.

  Trials change the recipe to be short. An optimizer of another kind, however, was chosen for
  the networks: it comes along with its rate, which would mean nothing to the recipe's own. So do
  the loss and how classes are drawn, which were chosen for the data.
  """
  cfg, tried = sweep.config, sweep.recipe
  whole = recipe.load(cfg.train_with, {}, cfg.data)
  changes = {}
  if tried['optimizer'].get('name') != whole['optimizer'].get('name'):
    changes['optimizer'] = tried['optimizer']
  changes |= recipe.find_balance(whole, tried['loss'], tried.get('sampling'))
  clips = recipe.fit(whole, sweep.space.family, spec, {})['clip']
  changes['clip'] = {split: recipe.differ(whole['clip'][split], clips[split]) for split in clips}
  return make_train_command(cfg.train_with, cfg.data, path, workdir, changes)


def read_coefficients(home: Path) -> dict | None:
  """The scaling coefficients that a sweep has found; None for none so far."""
  path = home / FOUND
  if not path.exists():
    raise FileNotFoundError(
      f'{path} is not there: the sweep has not ended; --report writes what there is so far'
    )
  return json.loads(path.read_text())['facts'].get('coefficients')
