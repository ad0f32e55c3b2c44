"""Training of an ensemble: its members one after another, each in a folder of one workdir.

A member's folder is the workdir of an ordinary training, so a killed run resumes in the member
that it was in, and other machines may train other members at the same time.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

from launch.config import complete_config
from launch.runs import members, training
from launch.runs.evaluation import make_evaluate
from launch.runs.ownership import check_owner
from launch.runs.trained import Trained, load_trained
from launch.runs.training import FREE, Config, Training
from movinet_jax import data
from movinet_jax.train.checkpoint import count_steps
from movinet_jax.train.workdir import CHECKPOINTS, claim_together


def run(config: Mapping, folder: str, only: str = ''):
  """Trains the members from wherever the workdir stands, and evaluates them when all are trained.

  Args:
    config: of the ensemble.
    folder: its workdir.
    only: the member to train, by name or number; '' trains all.

  Raises:
    ValueError: no such member, or a config that does not fit itself or the data.
  """
  check_owner(folder, 'train')
  built = resolve(config)
  if only:
    only = members.find_member(only, built)
  config = training.name_classes(config, next(iter(built.values())).labels)
  claim_together(folder, complete_config(Config, config), _list_free(built))
  home = Path(folder)
  for name in [only] if only else built:
    _tell(f'== {name} of {", ".join(built)}')
    training.run(built[name], str(home / name))
  left = [name for name, one in built.items() if not _has_ended(one, home / name)]
  if left:
    _tell(f'{", ".join(left)} of {folder} is still to be trained')
  elif config['data'].get('eval') is not None:
    _conclude(load_trained(folder))


def _conclude(trained: Trained):
  """Evaluates the ensemble and its members as clips, and prints how good each is."""
  source = trained.open_eval(trained.eval_section)
  size = trained.eval_batch_size
  whole = make_evaluate(trained.model, source, trained.clip, trained.loader, size)
  found = {
    **evaluate_members(trained, source, trained.loader, size),
    'ensemble': whole(trained.complete())[0],
  }
  if not jax.process_index():
    print_scores({name: one.metrics for name, one in found.items()})


def evaluate_members(
  trained: Trained,
  source: data.Source,
  loader: data.LoaderOptions,
  batch_size: int,
  *,
  views: Callable[[data.EvalClip], data.EvalClip] = lambda clip: clip,
  **how,
) -> dict:
  """Evaluates each member of an ensemble by itself, on the clips that it was trained for.

  Args:
    source, loader, batch_size: as for `make_evaluate`.
    views: what is seen of a video in place of a clip.
    how: the mode, as for `make_evaluate`.

  Returns:
    the Evaluation of each, by name.
  """
  found = {}
  for name, member in trained.members.items():
    run = make_evaluate(member.model, source, views(member.clip), loader, batch_size, **how)
    found[name], _ = run(member.complete())
  return found


def print_scores(scores: Mapping[str, Mapping[str, float]]):
  """Prints a row of metrics for each network.

  Args:
    scores: metrics by the name of the network.
  """
  names = list(next(iter(scores.values())))
  width = max(len(name) for name in scores)
  print(f'{"":{width}}', *(f'{name:>9}' for name in names))
  for network, metrics in scores.items():
    values = (f'{metrics[name]:{max(9, len(name))}.4f}' for name in names)
    print(f'{network:{width}}', *values)


def resolve(config: Mapping) -> dict[str, Training]:
  """Builds all members before the first begins: a mistake in the last shows now, not in days.

  Raises:
    ValueError: a member does not fit; names it. Or they do not make an ensemble.
  """
  opened = {}

  def make(one: Mapping) -> Training:
    cfg = training.read(one)
    splits = repr(cfg.data)  # members that see the same data open it once
    if splits not in opened:
      opened[splits] = training.open_sources(cfg.data)
    return training.resolve(one, sources=opened[splits])

  built = build(config, make)
  _check_labels(built)
  return built


def build(config: Mapping, make: Callable[[Mapping], Training]) -> dict[str, Training]:
  """Builds all members by name, and checks that they make an ensemble.

  Args:
    make: builds a member of its config.

  Raises: as `resolve`.
  """
  parts, whole = members.list_members(config['members']), training.read(config).clip.eval
  built = {}
  for name, one in training.list_configs(config).items():
    try:
      built[name] = make(one)
    except ValueError as error:
      raise ValueError(f'members.{name}: {error}') from error
    members.check_rate(name, parts[name], built[name].config.clip.eval, whole)
  clips = [one.config.clip.eval for one in built.values()]
  members.make_model([one.model for one in built.values()], list(parts.values()), clips, whole)
  return built


def _check_labels(built: Mapping[str, Training]):
  (first, one), *rest = built.items()
  for name, other in rest:
    if other.labels != one.labels:
      raise ValueError(
        f'members of an ensemble learn the same classes, but those of {name} are others than those '
        f'of {first}: wanted one dataset, or datasets with the same classes'
      )


def _list_free(names) -> set[str]:
  """Keys that may change when the ensemble goes on."""
  of_members = {f'members.{name}.config.{key}' for name in names for key in FREE}
  return {*FREE, *of_members}


def _has_ended(one: Training, home: Path) -> bool:
  return max(count_steps(home / CHECKPOINTS), default=0) >= one.config.loop.total_steps


def _tell(line: str):
  if not jax.process_index():
    print(line, file=sys.stderr, flush=True)
