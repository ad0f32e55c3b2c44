"""Config files, their overrides on the command line, and what they leave out."""

import argparse
import ast
import contextlib
import copy
import dataclasses
import importlib.machinery
import importlib.util
import os
import re
import reprlib
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ml_collections

from movinet_jax.names import suggest
from movinet_jax.paths import find_local

# Where `configs/` lies beside an installed package, for commands run elsewhere.
_ROOT = Path(__file__).resolve().parents[1]

# What holds sections, and is not the arguments of a function itself.
_CONTAINERS = ('config', 'config.data', 'config.clip')
# Sections that a config may leave out, and that changes to it may begin.
_OPTIONAL = (
  *('config.data.classes', 'config.mesh', 'config.precise_norm', 'config.train'),
  *('config.checkpoints', 'config.sampling', 'config.loss.class_weights'),
)
_FILE = re.compile(r'(.*?\.py)(?::(.*))?', re.DOTALL)
_WORDS = {'true': True, 'false': False}


def parse_config(parser: argparse.ArgumentParser, argv: Sequence[str]):
  """Parses a verb's arguments and its config.

  Adds `--config FILE[:ARGUMENT]` and `--config.section.key=value` to the parser's own.

  Returns:
    (namespace, ConfigDict). The config is locked and of plain values.

  Raises:
    ValueError: see `load_config`.
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

  A key or section that the config does not list is added: a section is the keyword arguments
  of a function, and they are checked when that function is called.

  Args:
    file: FILE.py or FILE.py:ARGUMENT, of this folder or of those shipped.
    overrides: of a key given twice, the last counts.

  Raises:
    ValueError: no such file, an error in it, a value of another type than the config's, or a
      change that members of an ensemble would not see.
  """
  config = _read(file)
  changes = [override.removeprefix('--config.').partition('=') for override in overrides]
  for key, _, text in changes:
    _put(config, key, text)
  _check_members(config, [key for key, _, _ in changes])
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

  `data.classes` is the exception.

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
  return _find(file)[0].resolve().is_relative_to(_ROOT / 'configs')


def _find(file: str) -> tuple[Path, str | None]:
  """The path and the argument of FILE[:ARGUMENT]; None for no argument."""
  named = _FILE.fullmatch(file)  # names of folders may have colons, too
  text, argument = named.groups() if named else (file, None)
  path = Path(find_local(text))
  if path.is_file():
    return path, argument
  if path.is_dir():
    raise ValueError(f'the config {text!r} is a folder; wanted a file in it, FILE.py')
  if not (_ROOT / path).is_file():
    raise ValueError(f'no config file {text!r}; those shipped are: {_list_shipped()}')
  return _ROOT / path, argument


def _read(file: str) -> ml_collections.ConfigDict:
  """What get_config of a file returns, locked."""
  path, argument = _find(file)
  loader = _Loader(f'{path.stem} (config)', str(path))
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
  with _naming_faults(file, str(path)), _importing_neighbors(path.parent):
    sys.modules[loader.name] = module  # where classes that it defines look for themselves
    loader.exec_module(module)
    if not callable(getattr(module, 'get_config', None)):
      raise ValueError('it has no function get_config')
    config = module.get_config() if argument is None else module.get_config(argument)
    if not isinstance(config, Mapping | ml_collections.ConfigDict):
      raise ValueError(
        f'get_config returned {reprlib.repr(config)}; wanted a ConfigDict of ml_collections, or '
        'a dict'
      )
    own = type(config) is ml_collections.ConfigDict  # whose references to keys stay as they are
    return (config if own else ml_collections.ConfigDict(config)).lock()


class _Loader(importlib.machinery.SourceFileLoader):
  """Reads the file itself: bytecode kept beside it may be older than a change in this second."""

  def path_stats(self, path):
    raise OSError


@contextlib.contextmanager
def _naming_faults(file: str, path: str) -> Iterator[None]:
  """Raises an error in a person's config as a ValueError of one line that names the place."""
  try:
    yield
  except (Exception, SystemExit) as error:
    said = (str(error).splitlines() or [''])[0]
    if type(error) is ValueError:  # which a config raises to tell a person something
      raise ValueError(f'config {file}: {said}') from error
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = f', line {lines[-1]}' if lines else ''
    raise ValueError(f'config {file}{line}: {type(error).__name__}: {said}') from error


@contextlib.contextmanager
def _importing_neighbors(folder: Path) -> Iterator[None]:
  """Within, a config may import the files beside it.

  They are looked for last, so none of them can stand for a module of Python or of ours, and
  they are forgotten afterwards: another folder may have files of the same names.
  """
  before, place = set(sys.modules), str(folder.absolute())
  sys.path.append(place)
  try:
    yield
  finally:
    sys.path.remove(place)
    new = set(sys.modules) - before
    beside = {name for name in new if '.' not in name and _lies_in(sys.modules[name], place)}
    for name in new:
      if name.partition('.')[0] in beside:
        del sys.modules[name]


def _lies_in(module, place: str) -> bool:
  """Whether a module or package is a file or folder of this very folder."""
  paths = [getattr(module, '__file__', None), *getattr(module, '__path__', ())]
  return any(os.path.dirname(path) == place for path in paths if path)


def _put(config: ml_collections.ConfigDict, key: str, text: str):
  """Gives a key its value, with sections on the way to it that are not there yet."""
  *path, last = key.split('.')
  if not all([*path, last]):
    raise ValueError(f'--config.{key}: wanted --config.section.key=value')
  section, where = config, 'config'
  for name in path:
    if section.get(name) is None:
      _set(section, name, ml_collections.ConfigDict())
    section, where = section[name], f'{where}.{name}'
    if not isinstance(section, ml_collections.ConfigDict):
      raise ValueError(f'{where} is {section!r} and no section: there is no config.{key}')
  _set(section, last, parse_value(text, section.get(last), f'{where}.{last}'))


def _check_members(config: ml_collections.ConfigDict, keys: Sequence[str]):
  """Refuses changes of what members of an ensemble replace by values of their own.

  All but the video that the ensemble sees, which is its own, too.
  """
  members = config.get('members') or {}
  for key in keys:
    if key.startswith(('members.', 'clip.eval.')):
      continue
    found = {name: _find_value(member.get('config'), key) for name, member in members.items()}
    own = {name: values[0] for name, values in found.items() if values}
    if own:
      values = ', '.join(f'{value!r} of {name}' for name, value in own.items())
      raise ValueError(
        f'config.{key} does not reach members that have a value of their own ({values}): '
        f'say --config.members.{next(iter(own))}.config.{key}=… for each of them'
      )


def _find_value(section, key: str) -> list:
  """The value of a key with dots, which may be None; [] where there is no such key."""
  for name in key.split('.'):
    if not isinstance(section, Mapping | ml_collections.ConfigDict) or name not in section:
      return []
    section = section[name]
  return [section]


def _set(section: ml_collections.ConfigDict, key: str, value):
  # What a key may be is up to the function that takes it, and not to what it was.
  with section.unlocked(), section.ignore_type():
    section[key] = value


def parse_value(text: str, old, where: str):
  """A value as a person types it: None, true and 1e-3 mean the same for every key.

  Args:
    old: what the config says. Where it is text, so is the value.

  Raises:
    ValueError: the text is no value where the config has a number, and the like.
  """
  word = text.strip().lower()
  if word == 'none':
    return None
  if isinstance(old, str):
    return text
  try:
    value = _WORDS[word] if word in _WORDS else ast.literal_eval(text.strip())
  except (SyntaxError, ValueError, MemoryError, RecursionError):
    value = text
  number = int, float, tuple, list  # a range may stand for a number
  kinds = {bool: (bool,), int: number, float: number}.get(type(old))
  if kinds and type(value) not in kinds:
    raise ValueError(
      f'{where} is {old!r} in the config; wanted a value like that or None, got {text!r}'
    )
  return float(value) if type(old) is float and type(value) is int else value


def _list_shipped() -> str:
  files = (_ROOT / 'configs').rglob('*.py')
  return ', '.join(sorted(str(f.relative_to(_ROOT)) for f in files if f.stem[0] != '_'))
