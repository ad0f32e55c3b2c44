"""A workdir belongs to one config: the same one resumes, another is refused."""

import errno
import json
import os
import reprlib
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util
from jax.experimental import multihost_utils

from movinet_jax.train.saved_steps import count_steps

CONFIG = 'config.json'  # what a workdir holds
CHECKPOINTS = 'checkpoints'
METRICS = 'metrics.jsonl'
_SHOWN = 10  # differences that an error lists
# What a file system says that knows no hard links.
_NO_LINKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK)


class ConfigMismatch(ValueError):
  """The workdir was begun with another config; `differences` says which keys."""

  def __init__(self, path, differences: list[str]):
    self.differences = differences
    shown = show_differences(differences)
    super().__init__(
      f'{path} was begun with another config:\n  {shown}\n'
      'Give the old values to go on with that run, or another --workdir to begin one.'
    )


def claim_workdir(
  workdir, config: Mapping, *, begun: bool = True, free: Collection[str] = ()
) -> bool:
  """Makes the workdir and writes config.json there, or checks the one it finds.

  Several processes that share the folder call `claim_together` instead.

  Args:
    workdir: folder of the run.
    config: nested mapping of JSON values; tuples count as lists.
    begun: whether there is a result to protect. A run that failed before its first
      checkpoint is not refused its mended config.
    free: keys such as 'loop.log_every' that may change, since results do not depend on
      them; 'loop.' stands for all keys of a section. config.json gets their new values,
      and stderr says which.

  Returns:
    True if the workdir was already claimed with this config, so that a run resumes.

  Raises:
    ConfigMismatch: if the config there differs; the message names each key.
    ValueError: if the config is not JSON, or config.json cannot be read.
  """
  folder = Path(workdir)
  try:
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise ValueError(f'A config must consist of JSON values: {error}') from error
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / CONFIG
  if not path.exists() and _write_new(path, text + '\n'):
    return False
  differences = find_differences(read_config(folder), json.loads(text))
  fixed = _leave_out(differences, free)
  if fixed and begun:
    raise ConfigMismatch(folder, fixed)
  if differences:
    replace_file(path, text + '\n')
    print(f'config of {folder} changed:', *differences, sep='\n  ', file=sys.stderr)
  return not fixed


def check_claim(workdir, config: Mapping, free: Collection[str] = ()):
  """Raises a ConfigMismatch if a workdir was claimed with another config; writes nothing."""
  folder = Path(workdir)
  if (folder / CONFIG).exists():
    differences = find_differences(read_config(folder), json.loads(json.dumps(config)))
    if fixed := _leave_out(differences, free):
      raise ConfigMismatch(folder, fixed)


def _leave_out(differences: list[str], free: Collection[str]) -> list[str]:
  """The differences of keys that may not change."""
  sections = tuple(key for key in free if key.endswith('.'))
  keys = {line: line.partition(': was ')[0] for line in differences}
  return [line for line, key in keys.items() if key not in free and not key.startswith(sections)]


def claim_together(workdir, config: Mapping, free: Collection[str] = ()) -> bool:
  """Claims a workdir for all processes of a run, which call this together.

  The first process claims it. The others look at what it left, so that all of them fail
  where one does. There is a result to protect once the workdir, or a folder in it, holds a
  checkpoint, or once there is a line of metrics.

  Args:
    workdir: folder of the run, which all processes share.
    config, free: see claim_workdir.

  Returns:
    Whether a run resumes.

  Raises:
    ConfigMismatch, ValueError: see claim_workdir; a ValueError also if a process does not
      see what the first one wrote.
  """
  folder, resumes = Path(workdir), None
  if jax.process_index() == 0:
    try:
      resumes = _claim_run(folder, config, free)
    finally:
      _tell(resumes)  # of an error too, or the others would wait for ever
    return resumes
  resumes = _tell(resumes)
  if not (folder / CONFIG).exists():
    raise ValueError(
      f'{folder} on {socket.gethostname()} is not the folder that the first process of '
      'this run has claimed: the workdir must be on a file system that all hosts share'
    )
  # After an error of the first process this raises the same one.
  return _claim_run(folder, config, free) if resumes is None else resumes


def _claim_run(folder, config, free) -> bool:
  logged = folder / METRICS
  begun = bool(count_steps(folder / CHECKPOINTS))
  begun = begun or (logged.exists() and logged.stat().st_size > 0)
  # A run in steps has a folder for each.
  begun = begun or any(map(count_steps, folder.glob(f'*/{CHECKPOINTS}')))
  return claim_workdir(folder, config, begun=begun, free=free)


def _tell(resumes: bool | None) -> bool | None:
  """Gives the first process's answer to all; None stands for an error."""
  told = np.int32(-1 if resumes is None else resumes)
  told = int(multihost_utils.broadcast_one_to_all(told))
  return None if told < 0 else bool(told)


def read_config(workdir) -> dict:
  """The config that claimed a workdir."""
  path = Path(workdir) / CONFIG
  try:
    config = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError) as error:
    raise FileNotFoundError(
      f'{workdir} is no workdir of a run: there is no {path.name} in it'
    ) from error
  except ValueError as error:  # of the text's encoding too
    raise ValueError(f'{path} is not JSON ({error}); was it edited?') from error
  if not isinstance(config, dict):
    raise ValueError(f'{path} holds no config but {reprlib.repr(config)}; was it edited?')
  return config


def find_differences(was: Mapping, now: Mapping) -> list[str]:
  """One line per key that differs, 'train.lr: was 1.8, now 0.9'.

  A key that is absent is as one that is null: settings that came later begin as null.
  """
  # Empty nodes stay in, as {}: a section that came or went is a difference as well.
  was, now = (
    {k: json.dumps(_plain(v), sort_keys=True) for k, v in _flat(config).items()}
    for config in (was, now)
  )
  return [
    f'{key}: was {was.get(key, "absent")}, now {now.get(key, "absent")}'
    for key in sorted(was.keys() | now.keys())
    if was.get(key, 'null') != now.get(key, 'null') and not _is_told(key, was, now)
  ]


def show_differences(differences: Sequence[str]) -> str:
  """The first of these lines, one below the other, for an error."""
  more = [f'… and {len(differences) - _SHOWN} more keys'] if len(differences) > _SHOWN else []
  return '\n  '.join([*differences[:_SHOWN], *more])


def _is_told(key, was, now) -> bool:
  """Whether it is a section that was or is empty: the keys that came or went say so."""
  keys = was.keys() | now.keys()
  empty = '{}' in (was.get(key), now.get(key))
  return empty and any(other.startswith(f'{key}.') for other in keys)


def replace_file(path: Path, text: str | bytes):
  """Writes a file such that a kill at any moment leaves the old text or the new.

  Text is written as UTF-8, whatever the locale says.
  """
  _write_part(path, text).replace(path)


def _flat(config):
  return traverse_util.flatten_dict(dict(config), keep_empty_nodes=True, sep='.')


def _plain(value):
  return {} if value is traverse_util.empty_node else value


def _write_part(path, text) -> Path:
  part = path.with_name(f'{path.name}.{socket.gethostname()}.{os.getpid()}.part')
  with part.open('wb') as file:
    file.write(text if isinstance(text, bytes) else text.encode())
    file.flush()
    os.fsync(file.fileno())
  return part


def _write_new(path, text) -> bool:
  """Writes a file whole or not at all; False if somebody else was first."""
  part = _write_part(path, text)
  try:
    # Unlike a rename, a link never replaces what is there.
    os.link(part, path)
    return True
  except FileExistsError:
    return False
  except OSError as error:
    if error.errno not in _NO_LINKS:
      raise
    return _write_first(path, text)
  finally:
    part.unlink()


def _write_first(path, text) -> bool:
  """Where there are no links, as in a bucket: a kill may leave it half written."""
  try:
    with path.open('x') as file:
      file.write(text)
    return True
  except FileExistsError:
    return False
