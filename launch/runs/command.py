"""The command that trains a network which a search has found, printed for a person."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from flax import traverse_util

from launch.runs import recipe
from launch.runs.training import Splits


def make_train_command(
  train_with: str, data: Splits, spec: Path, workdir: Path, changes: Mapping = {}
) -> str:
  """Makes the command that trains a network on the data that was searched on.

  Args:
    train_with: config file of the recipe.
    data: of the search.
    spec: architecture file of the network.
    workdir: of the training run.
    changes: of the recipe's sections, by key; empty sections count as none.
  """
  flat = traverse_util.flatten_dict({'data': recipe.locate(train_with, data), **changes}, sep='.')
  words = ['movinet', 'train', f'--config={train_with}', f'--spec={spec}', f'--workdir={workdir}']
  return shlex.join([*words, *(f'--config.{key}={value}' for key, value in flat.items())])
