"""What a sweep has found so far: found.json, the networks to train further, the report."""

import json
import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from launch import outcome, trial
from movinet_jax.spec import to_json
from movinet_jax.train.workdir import read_config, replace_file
from nas import report, spaces
from nas.history import Conclusion, Signal, State, Trial
from nas.trials.database import parse_address, show_address

FOUND, REPORT = 'found.json', 'report.html'


def harvest(
  cfg: Mapping, home: Path, space, algorithm, trials: Sequence[Trial], storage: str
) -> dict:
  """Writes what the algorithm makes of the trials, finished or not.

  Args:
    storage: URL of the study, for the command that shows it.

  Returns:
    found.json: what was found, and if any network was trained, the best as an
    architecture file.
  """
  conclusion = algorithm.conclude(trials)
  networks = _write_networks(cfg, home, space, trials, conclusion)
  found = {
    'search': cfg['algorithm']['name'],
    'trials': Counter(one.state for one in trials),
    'facts': conclusion.facts,
    'path': conclusion.path,
  }
  if conclusion.best:
    found = {**networks[conclusion.best[0]], **found}
  replace_file(home / FOUND, json.dumps(found, indent=2) + '\n')
  findings = report.SweepFindings(
    title=f'{cfg["study"]} in {home}',
    algorithm=cfg['algorithm']['name'],
    space=space.space,
    trials=trials,
    conclusion=conclusion,
    budget=getattr(algorithm, 'budget', None),
    over=_is_over(algorithm, trials),
    measure=' + '.join(cfg['fitness']),
    limits=cfg['limits'],
    networks=networks,
    seed_noise=find_seed_noise(trials),
    dashboard=f'optuna-dashboard {shlex.quote(show_address(parse_address(storage)))}',
  )
  report.write_sweep_report(home / REPORT, findings)
  return found


def _write_networks(cfg, home, space, trials, conclusion: Conclusion) -> dict:
  """Number of a trial -> what is known of its network; a file for each, best first."""
  networks, folder = {}, home / 'found'
  for rank, number in enumerate(conclusion.best, 1):
    one, path = trials[number], folder / f'{rank:02d}.json'
    spec = space.decode(one.choices)
    path.parent.mkdir(exist_ok=True)
    networks[number] = {
      'family': space.family,
      'spec': to_json(spec),
      'trial': number,
      'choices': space.space.describe(one.choices),
      'value': one.value,
      'metrics': dict(one.metrics),
      'train': make_command(cfg, space.family, spec, path, home / f'trained-{rank:02d}'),
    }
    replace_file(path, json.dumps(networks[number], indent=2) + '\n')
  for old in folder.glob('*.json'):  # of an earlier harvest
    if old.stem.isdecimal() and int(old.stem) > len(conclusion.best):
      old.unlink(missing_ok=True)  # another machine may be at it as well
  return networks


def _is_over(algorithm, trials: Sequence[Trial]) -> bool:
  """Whether the algorithm has nothing left to try; chance has no say in that."""
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


def make_command(cfg: Mapping, family: str, spec, path: Path, workdir: Path) -> str:
  """What trains a network of an architecture file by the whole recipe, at its own clip.

  Trials change the recipe to be short. But an optimizer of another kind was chosen for the
  networks: it comes along, with its rate, which would mean nothing to the recipe's own.
  """
  recipe, tried = (trial.load_recipe({**cfg, **own}) for own in ({'recipe': {}}, {}))
  words = []
  if tried['optimizer'].get('name') != recipe['optimizer'].get('name'):
    words += [f'--config.optimizer.{k}={v}' for k, v in tried['optimizer'].items()]
  for name, section in recipe['clip'].items():
    fitted = trial.fit_clip(section, family, spec)
    words += [
      f'--config.clip.{name}.{key}={fitted.get(key)}'
      for key in sorted({*section, *fitted})
      if section.get(key) != fitted.get(key)
    ]
  return f'{outcome.make_command(cfg, path, workdir)} {shlex.join(words)}'.strip()


def read_coefficients(home: Path) -> tuple[dict, dict]:
  """The config of a search for scaling coefficients, and what it has found."""
  cfg, path = read_config(home), home / FOUND
  if not path.exists():
    raise FileNotFoundError(
      f'{path} is not there: the sweep has not ended; --report writes what there is so far'
    )
  return cfg, json.loads(path.read_text())['facts'].get('coefficients')


def print_scaled(cfg: Mapping, coefficients: Mapping | None, phi: float) -> int:
  """Prints the spaces of size φ that coefficients scale a config's base to."""
  space = spaces.create(**cfg['space'])
  if not hasattr(space, 'describe_scaled'):
    raise ValueError(f'{cfg["study"]} is no search for scaling coefficients, which --phi is for')
  if not coefficients:
    raise ValueError(
      f'{cfg["study"]} has no coefficients: none is given, or none is trained whole yet'
    )
  print(space.describe_scaled(coefficients, phi))
  return 0
