"""The numbers of a one-shot search: those of the search itself and those of its algorithm.

They are part of the state that a search carries, so that one compiled program serves a
study of seeds, targets and rates.
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from movinet_jax import schema
from movinet_jax.names import check_name
from movinet_jax.schema import Count, NotNegative, Positive, Range, Rate, Seed
from nas.algorithms.reinforce import Reinforce

_Weight = Annotated[float, Range(most=0)]  # cost is no merit


class Setting(NamedTuple):
  """A number of a search.

  Attributes:
    whole: whether it is an integer.
    default: dataclasses.MISSING where it must be given.
  """

  whole: bool
  default: Any


@functools.cache
def list_settings(kind: type) -> dict[str, Setting]:
  """The settings that a dataclass declares: fields annotated with a range, by name."""
  hints = typing.get_type_hints(kind, include_extras=True)
  return {
    field.name: Setting(typing.get_args(hints[field.name])[0] is int, field.default)
    for field in dataclasses.fields(kind)
    if schema.list_limits(hints[field.name])
  }


@dataclasses.dataclass(frozen=True)
class Settings:
  """What every search is given, whatever its algorithm.

  Defaults are TuNAS's, for batches of 4,096 clips.

  Attributes:
    seed: of the weights and of what is drawn.
    target: the cost aimed at, in the cost's own unit; it has no default.
    beta: weight of the relative distance from it.
    memory_target, memory_beta: the same for the optional second cost.
    total_steps: of the search.
    learning_rate: peak rate of the weights.
    warmup: share of the steps over which the rate rises from 0.
    weight_decay: gradient of L2 per weight, in float32; TuNAS has 3e-5 with bfloat16.

  Raises:
    ValueError: a number out of its range.
  """

  seed: Seed = 0
  target: Positive = 0.0
  beta: _Weight = -0.1
  memory_target: Positive = 1.0
  memory_beta: _Weight = 0.0
  total_steps: Count = 27_050
  learning_rate: NotNegative = 2.64
  warmup: Rate = 0.025
  weight_decay: NotNegative = 4e-5

  def __post_init__(self):
    schema.verify(self)


def make_settings(space, algorithm: type = Reinforce, **given: float) -> dict[str, jax.Array]:
  """All settings of a search as arrays: those given, and the defaults of the others.

  A setting of the algorithm that the search has too, such as total_steps, is the search's.

  Args:
    space: whose decisions are searched (nas.space.Space).
    algorithm: its class.

  Raises:
    ValueError: an unknown name, or a number out of its range.
  """
  known = list_settings(algorithm) | list_settings(Settings)
  for name in given:
    check_name(name, known, 'setting of a search')
  values = {name: given.get(name, setting.default) for name, setting in known.items()}
  Settings(**{name: values[name] for name in list_settings(Settings)})
  make_algorithm(space, values, algorithm)
  return {
    name: jnp.asarray(value, jnp.int32 if known[name].whole else jnp.float32)
    for name, value in values.items()
  }


def make_algorithm(space, settings: Mapping, algorithm: type = Reinforce, held=None):
  """The algorithm with these settings, which are numbers or traced.

  Args:
    held: decisions that are not searched, see nas.algorithms.policy.Policy.
  """
  given = {name: settings[name] for name in list_settings(algorithm)}
  return algorithm(space, held=held, **given)
