"""Config files and their overrides on the command line."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

# Where `configs/` lies beside an installed package, for commands run elsewhere.
_ROOT = Path(__file__).resolve().parents[1]


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]):
  """Parses a verb's arguments and its config.

  Adds `--config FILE[:ARGUMENT]` and `--config.section.key=value` to the parser's own.

  Returns:
    (namespace, ConfigDict). The config is locked and of plain values.

  Raises:
    ValueError: no such file, or an override of a key that the config does not have.
  """
  parser.add_argument(
    '--config', required=True, help='FILE.py[:ARGUMENT] with a get_config function'
  )
  arguments, overrides = parser.parse_known_args(argv)
  for given in overrides:
    if not given.startswith('--config.'):
      parser.error(f'unknown argument {given}')
  return arguments, load(arguments.config, overrides)


def load(file: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
  """Runs a config file's get_config and applies `--config.section.key=value`."""
  path, colon, argument = file.partition(':')
  if not os.path.isfile(path):
    if not (_ROOT / path).is_file():
      raise ValueError(f'no config file {path!r}; those shipped are: {_list_shipped()}')
    path = str(_ROOT / path)
  argv = ['movinet', f'--config={path}{colon}{argument}', *overrides]
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config', lock_config=True, flag_values=values, sys_argv=argv
  )
  try:
    values(argv)
  except (flags.Error, AttributeError, KeyError, TypeError) as error:
    raise ValueError(f'config {file}: {error}') from error
  return values.config


def _list_shipped() -> str:
  files = (_ROOT / 'configs').rglob('*.py')
  return ', '.join(sorted(str(f.relative_to(_ROOT)) for f in files if f.stem[0] != '_'))
