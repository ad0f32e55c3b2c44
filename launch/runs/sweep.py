"""Sweeps: searches that train many networks, one trial each, resolved from a config."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping

import numpy as np

from launch.config import complete_config, is_shipped
from launch.runs import recipe, training
from launch.runs.training import Splits
from movinet_jax import data, schema
from movinet_jax.names import check_name, find
from movinet_jax.schema import Count, Natural, Positive
from movinet_jax.train import evaluation, workdir
from movinet_jax.train.loop import LoopOptions
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
    seed: of proposals, of the held-out part and of every training.
    study: a name, of the study in its database.
    algorithm: its name, and its settings.
    space: nas.spaces.create.
    train_with: config file of the recipe.
    data: what trials learn from; `eval` only tells printed commands where it is.
    held_out: share of the training split that trials are scored on.
    fitness: metrics of an evaluation whose sum is maximized.
    coefficients: of --phi, in place of a search's.
    recipe: changes to the sections of `train_with`.
    limits: see Limits.
    pruning: nas.trials.pruning.Pruning; {} never stops a trial early.
    latency_repeats: measurements of a network's latency; 0 measures none.
    workers: networks at a time; 0 is one for each accelerator.
    max_attempts: how often a trial is begun before it counts as failed.
    trial_secs: the longest that a trial may take; 0 is as long as it takes.
  """

  seed: Natural
  study: str
  algorithm: Mapping
  space: Mapping
  train_with: str
  data: Splits
  held_out: float
  fitness: tuple[str, ...]
  coefficients: Mapping | None = None
  recipe: Mapping = dataclasses.field(default_factory=dict)
  limits: Limits = dataclasses.field(default_factory=Limits)
  pruning: Mapping = dataclasses.field(default_factory=dict)
  latency_repeats: Natural = 5
  workers: Natural = 0
  max_attempts: Count = 3
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
    """Equal for trials that would train the same network in the same way."""
    fitted = self.fit_recipe(self.space.decode(proposal.choices), proposal.train)
    trained = [recipe.list_settings(fitted), fitted['model'], fitted['clip']]
    scored = self.record['held_out'], self.record['fitness']
    text = json.dumps([trained, *scored], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def describe(self) -> dict:
    """Describes all that results of trials depend on: a study of anything else is refused."""
    return {
      **{key: self.record[key] for key in _KEPT},
      'training': recipe.list_settings(self.recipe),
      'data': self.sources['train'].digest,
    }


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
    _check_fitness(cfg.fitness, held_out)
    sources, num_classes = {'train': learnt, 'eval': held_out}, len(learnt.labels)
    config = training.name_classes(config, learnt.labels)
    cfg = schema.build(Config, config, '')
    base = recipe.load(cfg.train_with, cfg.recipe, cfg.data)
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


def _check_fitness(names, source: data.Source):
  """Raises a ValueError for a fitness that an evaluation of this data does not have."""
  known = evaluation.list_metrics(len(source.labels), source.multi_label)
  if not names:
    raise ValueError(f'fitness names no metric; there are: {", ".join(known)}')
  for name in names:
    check_name(name, known, 'metric of fitness')


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
