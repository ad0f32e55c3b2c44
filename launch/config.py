"""Config files, their overrides on the command line, and what they leave out."""

import argparse
import ast
import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from movinet_jax.names import suggest

# Where `configs/` lies beside an installed package, for commands run elsewhere.
_ROOT = Path(__file__).resolve().parents[1]

# What holds sections, and is not the arguments of a function itself.
_CONTAINERS = ('config', 'config.data', 'config.clip')
# Sections that a config may leave out, and that the command line may begin.
_OPTIONAL = ('config.data.classes',)


def parse_config(parser: argparse.ArgumentParser, argv: Sequence[str]):
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
  arguments, rest = parser.parse_known_args(argv)
  overrides = []
  while rest:
    given, *rest = rest
    if not given.startswith('--config.'):
      parser.error(f'unknown argument {given}')
    if '=' not in given:  # --config.seed 3
      if not rest or rest[0].startswith('--'):
        parser.error(f'{given} has no value: say {given}=VALUE')
      given, rest = f'{given}={rest[0]}', rest[1:]
    overrides.append(given)
  return arguments, load_config(arguments.config, overrides)


def load_config(file: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
  """Runs a config file's get_config and applies `--config.section.key=value`.

  A section is the keyword arguments of a function, so a key that it does not list yet is
  added; whoever calls that function finds a key that is none of its arguments. `data.classes`
  is the only section that a config need not list.

  Raises:
    ValueError: no such file or section, or a value of another type than the config's.
  """
  _, colon, argument = file.partition(':')
  argument = f'--config={_find(file)}{colon}{argument}'
  values = dict(map(_split, overrides))  # of a key given twice, the last counts
  plain = _read(file, [argument])
  new = {key: text for key, text in values.items() if _is_new(plain, key, text, file)}
  known = [f'--config.{key}={values[key]}' for key in values if key not in new]
  config = _read(file, [argument, *known])
  for key, text in new.items():
    _put(config, key, _parse_value(text))
  return config


def complete_config(kind: type, config: Mapping) -> dict:
  """A config with the defaults of what it leaves out, as a workdir records it.

  A default of None stands for a key that is absent. A section whose default is an object is
  recorded as {}: what it leaves out in turn is up to whoever reads it.

  Args:
    kind: the dataclass that says what such a config holds.
  """
  defaults = {}
  for field in dataclasses.fields(kind):
    if field.default_factory is not dataclasses.MISSING:
      defaults[field.name] = {}
    elif field.default is not dataclasses.MISSING and field.default is not None:
      defaults[field.name] = field.default
  return {**defaults, **config}


def merge_config(
  config: Mapping, changes: Mapping, where: str = 'config', place: str = 'config'
) -> dict:
  """A config with changes to its sections, which may bring new keys but no new sections.

  `data.classes` is the exception, as on the command line.

  Args:
    where: what the config is called in messages.
    place: where it stands in a whole config.

  Raises:
    ValueError: there is no such section, or no such key where keys are given; names the
      nearest.
  """
  merged = copy.deepcopy(dict(config))
  for key, value in changes.items():
    old = merged.get(key)
    fixed = place in _CONTAINERS or isinstance(value, Mapping)
    if key not in merged and fixed and f'{place}.{key}' not in _OPTIONAL:
      kind = 'section' if isinstance(value, Mapping) else 'key'
      raise ValueError(f'{where} has no {kind} {key!r}{suggest(key, merged)}')
    if isinstance(old, Mapping) and not isinstance(value, Mapping):
      raise ValueError(f'{where}.{key} is a section, got {value!r}')
    if isinstance(value, Mapping) and isinstance(old, Mapping):
      merged[key] = merge_config(old, value, f'{where}.{key}', f'{place}.{key}')
    elif type(old) is float and type(value) is int:
      merged[key] = float(value)
    else:
      merged[key] = copy.deepcopy(value)
  return merged


def is_shipped(file: str) -> bool:
  """Whether a config, FILE[:ARGUMENT], is code of this package and of nobody else.

  Raises:
    ValueError: no such file.
  """
  return Path(_find(file)).resolve().is_relative_to(_ROOT / 'configs')


def _find(file) -> str:
  path = file.partition(':')[0]
  if os.path.isfile(path):
    return path
  if not (_ROOT / path).is_file():
    raise ValueError(f'no config file {path!r}; those shipped are: {_list_shipped()}')
  return str(_ROOT / path)


def _read(file, arguments):
  argv, values = ['movinet', *arguments], flags.FlagValues()
  config_flags.DEFINE_config_file('config', lock_config=True, flag_values=values, sys_argv=argv)
  try:
    values(argv)
  except (flags.Error, AttributeError, KeyError, TypeError) as error:
    # ml_collections puts a config's own error at the end of a whole traceback.
    message = str(error).strip().strip('"').splitlines()[-1]
    raise ValueError(f'config {file}: {message}') from error
  return values.config


def _split(override):
  key, _, text = override.removeprefix('--config.').partition('=')
  return key, text


def _is_new(config, key, text, file) -> bool:
  """Whether a typed flag cannot say it: a key not listed yet, or None for one that is."""
  *path, last = key.split('.')
  section, where = config, 'config'
  for name in path:
    if section.get(name) is None and f'{where}.{name}' in _OPTIONAL:
      return True
    if not isinstance(section.get(name), ml_collections.ConfigDict):
      raise ValueError(f'{file} has no section {where}.{name}{suggest(name, section)}')
    section, where = section[name], f'{where}.{name}'
  if last not in section and where in _CONTAINERS:
    raise ValueError(f'{file} has no key {where}.{last}{suggest(last, section)}')
  return last not in section or text == 'None'


def _put(config, key, value):
  *path, last = key.split('.')
  section = config
  for name in path:
    if section.get(name) is None:
      with section.unlocked():
        section[name] = ml_collections.ConfigDict()
    section = section[name]
  with section.unlocked():
    if last in section:
      del section[last]  # and with it the type of what it held
    section[last] = value


def _parse_value(text):
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return text


def _list_shipped() -> str:
  files = (_ROOT / 'configs').rglob('*.py')
  return ', '.join(sorted(str(f.relative_to(_ROOT)) for f in files if f.stem[0] != '_'))
