"""Sweeps: searches that train many networks, one trial each, resolved from a config."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from launch.config import complete_config, is_shipped
from launch.runs import recipe, training
from launch.runs.ownership import check_owner
from launch.runs.training import Splits
from movinet_jax import data, schema
from movinet_jax.names import check_name, find
from movinet_jax.schema import NAME, Count, LocalPath, Natural, Part, Positive, Seed
from movinet_jax.train import evaluation, workdir
from movinet_jax.train.loop import LoopOptions
from movinet_jax.train.metrics import WORDS, find_direction
from nas import algorithms, spaces
from nas.algorithms.arguments import list_sources, take
from nas.history import Proposal
from nas.trials.pruning import Pruning

# What the results of trials depend on, beside the search itself. The last two decide what fails.
_KEPT = (
  *('space', 'held_out', 'fitness', 'limits', 'pruning', 'latency_repeats'),
  *('max_attempts', 'trial_secs'),
)


@dataclasses.dataclass(frozen=True)
class Limits:
  """The most that a network may cost; None for as much as it takes."""

  params: Positive | None = None
  macs: Positive | None = None
  latency_ns: Positive | None = None

  def items(self) -> list[tuple[str, float]]:
    """The limits there are, by name."""
    return [(name, most) for name, most in vars(self).items() if most is not None]


@dataclasses.dataclass(frozen=True)
class Config:
  """The contents of a sweep's config.

  Attributes:
    seed: of proposals and of the held-out part.
    study: a name, of the study in its database.
    algorithm: its name, and its settings.
    space: nas.spaces.create.
    train_with: config file of the recipe.
    data: what trials learn from; `eval` only tells printed commands where it is.
    held_out: share of the training split that trials are scored on.
    fitness: metrics of an evaluation, whose sum is a trial's value: all of them better when
      higher, or all better when lower, where it is the negative sum. It is maximized.
    coefficients: of --phi, in place of a search's.
    recipe: changes to the sections of `train_with`.
    limits: see Limits.
    pruning: nas.trials.pruning.Pruning; {} never stops a trial early.
    latency_repeats: measurements of a network's latency; 0 measures none.
    workers: networks at a time; 0 is one for each accelerator.
    max_attempts: how often a trial is begun before it counts as failed.
    max_failures: failed trials that end the sweep, as long as none was trained.
    trial_secs: the longest that a trial may take; 0 is as long as it takes.
  """

  seed: Seed
  study: Annotated[str, NAME]
  algorithm: Mapping
  space: Mapping
  train_with: LocalPath
  data: Splits
  held_out: Part
  fitness: tuple[str, ...]
  coefficients: Mapping | None = None
  recipe: Mapping = dataclasses.field(default_factory=dict)
  limits: Limits = dataclasses.field(default_factory=Limits)
  pruning: Mapping = dataclasses.field(default_factory=dict)
  latency_repeats: Natural = 5
  workers: Natural = 0
  max_attempts: Count = 3
  max_failures: Count = 5
  trial_secs: Natural = 0


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A sweep, built and checked. Nothing is measured, trained or written yet.

  Attributes:
    config: what was resolved.
    space: the networks to choose among.
    algorithm: what proposes them.
    sources: what trials learn from ('train') and are scored on ('eval'), two parts of one
      split; {} where only the number of classes was given.
    recipe: the training config that all trials begin with.
    pruning: when trials are stopped early; None for never.
    record: what config.json keeps of the config.
  """

  config: Config
  space: object
  algorithm: object
  sources: Mapping[str, data.Source]
  recipe: Mapping
  pruning: Pruning | None
  record: Mapping

  @property
  def num_classes(self) -> int:
    return len(self.sources['train'].labels)

  @property
  def measure(self) -> str:
    """What a trial's value is; see name_measure."""
    return name_measure(self.config.fitness)

  @property
  def scored(self) -> list[str] | str:
    """What values are, as studies and keys hold it.

    Where lower is better it is no list of metrics: earlier versions maximized their sum, and a
    study of those must not go on with values of the other sign.
    """
    names = self.config.fitness
    return self.measure if is_lower_better(names) else list(names)

  def fit_recipe(self, spec, changes: Mapping) -> dict:
    """The training config of one network; `changes` are the search's own, by dotted key."""
    return recipe.fit(self.recipe, self.space.family, spec, changes)

  def fit_largest(self) -> dict:
    """The training config of the largest network.

    Of spaces that do not know it, of the network of all last choices, as their lists grow.
    """
    last = np.asarray(self.space.space.sizes) - 1
    choices = self.space.largest() if hasattr(self.space, 'largest') else last
    return self.fit_recipe(self.space.decode(np.asarray(choices, np.int32)), {})

  def make_key(self, proposal: Proposal) -> str:
    """Equal for trials that would train the same network in the same way: a folder's name."""
    fitted = self.fit_recipe(self.space.decode(proposal.choices), proposal.train)
    return name_trial(self.describe_trial(fitted))

  def describe_trial(self, fitted: Mapping) -> dict:
    """Describes all that the result of a trial depends on, beside its thresholds, as JSON.

    Where the data lies is not part of that, nor is what only says how fast a trial runs.

    Args:
      fitted: the training config of its network, of `fit_recipe`.
    """
    model, place = fitted['model'], self.record['data']['train']
    made = {
      'training': recipe.list_settings(fitted),
      'model': {key: model[key] for key in model if f'model.{key}' not in training.FREE},
      'clip': fitted['clip'],
      'data': {
        **{key: place[key] for key in place if f'data.train.{key}' not in training.FREE},
        'digests': {part: source.digest for part, source in self.sources.items()},
      },
      'seed': self.config.seed,
      'held_out': self.config.held_out,
      'fitness': self.scored,
      'limits': dict(self.config.limits.items()),
      'latency_repeats': self.config.latency_repeats,
    }
    return json.loads(json.dumps(made))

  def describe(self) -> dict:
    """Describes all that results of trials depend on: a study of anything else is refused."""
    return {
      **{key: self.record[key] for key in _KEPT},
      'fitness': self.scored,
      'training': recipe.list_settings(self.recipe),
      # Of the whole split, the seed and the share held out: so it tells of both parts.
      'data': self.sources['train'].digest,
    }


def name_trial(made: Mapping) -> str:
  """The name of a trial's folder, of what Sweep.describe_trial says."""
  text = json.dumps(made, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def resolve(config: Mapping, *, num_classes: int | None = None) -> Sweep:
  """Builds a sweep from its config.

  Args:
    config: what a config file gives.
    num_classes: N, in place of any data: nothing is opened.

  Raises:
    ValueError: the config does not fit itself or the data.
    SourceError: there is no such data.
  """
  cfg = schema.build(Config, config, '')
  if cfg.limits.latency_ns and not cfg.latency_repeats:
    raise ValueError('limits.latency_ns needs measurements: set latency_repeats to 1 or more')
  if cfg.coefficients:
    raise ValueError(
      'this config has coefficients already, there is nothing to search: say --phi=1 for '
      'the spaces that they scale, or coefficients=None to search'
    )
  base = recipe.load(cfg.train_with, cfg.recipe, cfg.data)
  pruning = _make_pruning(cfg, base)
  space = schema.call(spaces.create, cfg.space, 'space')
  sources = {}
  if num_classes is None:
    learnt, held_out = data.split_source(open_data(cfg), cfg.held_out, seed=cfg.seed)
    sources, num_classes = {'train': learnt, 'eval': held_out}, len(learnt.labels)
    config = training.name_classes(config, learnt.labels)
    cfg = schema.build(Config, config, '')
    base = recipe.load(cfg.train_with, cfg.recipe, cfg.data)
  several = sources['train'].multi_label if sources else training.is_multi_label(base['loss'])
  _check_fitness(cfg.fitness, num_classes, several)
  algorithm = make_algorithm(cfg, space, num_classes)
  record = complete_config(Config, config)
  return Sweep(cfg, space, algorithm, sources, base, pruning, record)


def read_config(folder: str) -> dict:
  """The config of a sweep's workdir.

  Raises:
    ValueError: the workdir is of another kind of run.
  """
  config = workdir.read_config(folder)
  try:
    schema.build(Config, config, '')
  except ValueError as error:
    raise ValueError(f'{folder}/config.json is not of a sweep: {error}') from error
  return config


def read_safe_config(folder: str) -> dict:
  """The config of a workdir, as long as it runs no code but ours: a workdir is data.

  Raises:
    ValueError: its recipe is a file that is not part of this package.
  """
  check_owner(folder, 'sweep')
  file = workdir.read_config(folder).get('train_with')
  if not isinstance(file, str) or not is_shipped(file):
    raise ValueError(
      f'{folder}/config.json would run {file!r}, which is not part of this package: if it is '
      'yours, say --config=… as when the sweep was begun'
    )
  return read_config(folder)


def open_data(cfg: Config) -> data.Source:
  """The videos of a sweep: trials learn from a part, and are scored on the rest."""
  return training.open_train(cfg.data)


def count_classes(cfg: Config) -> int | None:
  """N where the recipe says it, without its data."""
  return recipe.count_classes(cfg.train_with, cfg.recipe, cfg.data)


def is_lower_better(fitness: Sequence[str]) -> bool:
  """Tells whether the metrics of a fitness, all of one direction, are better when lower."""
  return find_direction(fitness[0]) == 'min'


def name_measure(fitness: Sequence[str]) -> str:
  """Names the value of a trial, which a sweep maximizes: 'top1', 'top1 + top5', '-loss'."""
  names = ' + '.join(fitness)
  if not is_lower_better(fitness):
    return names
  return f'-({names})' if len(fitness) > 1 else f'-{names}'


def _check_fitness(names: Sequence[str], num_classes: int, multi_label: bool):
  """Raises a ValueError for a fitness that is no sum of different metrics of one direction.

  Args:
    num_classes, multi_label: of the data, which say what metrics an evaluation has.
  """
  known = evaluation.list_metrics(num_classes, multi_label)
  rated = [name for name in known if find_direction(name) != 'count']
  if not names:
    raise ValueError(f'fitness names no metric; there are: {", ".join(rated)}')
  for name in names:
    check_name(name, known, 'metric of fitness')
  if twice := [name for name in names if names.count(name) > 1]:
    raise ValueError(f'fitness names {twice[0]} twice: name each metric once')
  found = {name: find_direction(name) for name in names}
  if 'count' in found.values() or len(set(found.values())) > 1:
    said = ', '.join(f'{name} ({WORDS[own]})' for name, own in found.items())
    raise ValueError(
      f'fitness adds up {said}; wanted metrics that are all better when higher, or all better '
      f'when lower, of: {", ".join(rated)}'
    )


def _make_pruning(cfg: Config, base: Mapping) -> Pruning | None:
  """When trials are stopped early.

  Raises:
    ValueError: the rule does not fit, or names steps at which trials are not evaluated.
  """
  if not cfg.pruning:
    return None
  rule = schema.call(Pruning, cfg.pruning, 'pruning')
  loop = schema.build(LoopOptions, base['loop'], 'recipe.loop')
  for step in rule.steps:
    if not loop.eval_every or step % loop.eval_every or step >= loop.total_steps:
      when = f'every {loop.eval_every} of {loop.total_steps} steps'
      raise ValueError(
        f'pruning at step {step}, but trials are evaluated '
        f'{when if loop.eval_every else "at their end"}: set recipe.loop.eval_every, and '
        'steps that are multiples of it'
      )
  return rule


def make_algorithm(cfg: Config, space, num_classes: int):
  """The algorithm of a config, for a space of networks.

  Raises:
    ValueError: no such algorithm or setting, or the space lacks what it needs.
  """
  settings, known = dict(cfg.algorithm), algorithms.list_algorithms()
  name = settings.pop('name', None)
  if name is None:
    raise ValueError(f'the config lacks algorithm.name; there are: {", ".join(known)}')
  make, limits = find(known, name, 'algorithm'), dict(cfg.limits.items())
  limited = [other for other, kind in known.items() if 'fits' in list_sources(kind)]
  if limits and name not in limited:
    raise ValueError(
      f'limits are for {" and ".join(limited)}, which draw other networks for those that are '
      f'over one; {name} has its own idea of cost: leave limits out'
    )
  offer = functools.partial(spaces.find_offer, space, num_classes=num_classes, limits=limits)
  try:
    given = take(make, offer)
  except ValueError as error:
    raise ValueError(f'{name} {error}, which {space.family} spaces as this one do not') from error
  return schema.call(make, settings, 'algorithm', **given)
