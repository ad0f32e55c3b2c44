"""Paths that a person gives: on a command line, or in a config."""

import contextlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

# gs://bucket, and gs:/bucket, which is left of it once a path was normalized.
_REMOTE = re.compile('([A-Za-z][A-Za-z0-9+.-]+)://|(gs|s3|az|hf|hdfs|abfss?|https?|file):/')
# Orbax looks for its own folders with patterns, and TensorStore takes \ for a separator.
_TROUBLE = re.compile(r'[*?\[\]\\]|[A-Za-z0-9]:/')


def find_local(text: str) -> str:
  """A path of this machine's file systems, with `~` expanded.

  Raises:
    ValueError: it is remote, holds characters that cannot be printed, or begins with the home
      of an unknown user.
  """
  remote = _REMOTE.match(text)
  if remote and (remote[1] or not os.path.exists(text)):
    scheme = remote[1] or remote[2]
    if scheme == 'file':
      raise ValueError(f'{text!r} is an address: give the path alone')
    raise ValueError(
      f'{text!r} is not on a file system of this machine: mount what {scheme}: stands for '
      '(a bucket with gcsfuse, s3fs or rclone; `movinet submit` has --mount), and give its folder'
    )
  if any(unicodedata.category(letter) in ('Cc', 'Cs') for letter in text):
    raise ValueError(
      f'{text!r} holds a character that cannot be printed or is not UTF-8: rename it, or '
      'give a symbolic link to it'
    )
  path = os.path.expanduser(text)
  if path.startswith('~'):
    name = path.partition('/')[0]
    raise ValueError(
      f'{text!r} begins with the home of {name[1:]}, and there is no such user: for a folder '
      f'called {name}, say ./{text}'
    )
  return path


@contextlib.contextmanager
def plain_name(folder: Path) -> Iterator[Path]:
  """A path to a folder, which need not exist yet, that Orbax and TensorStore understand.

  It is the folder itself, or a symbolic link where a name on the way would be misread:
  Orbax merges the files of `lr[0.1]` with none, those of `lr?` with another folder's.
  """
  if not _TROUBLE.search(os.path.abspath(folder)):
    yield folder
    return
  with tempfile.TemporaryDirectory(prefix='movinet-') as home:
    link = Path(home) / 'folder'
    if _TROUBLE.search(str(link)):
      raise ValueError(
        f'checkpoints in {str(folder)!r} need a link in a folder for temporary files without '
        f'any of *?[]\\ in its name, got {home}: set TMPDIR to another'
      )
    link.symlink_to(folder.absolute(), target_is_directory=True)
    yield link


def check_writable(file: str | Path):
  """Checks that a file can be written, before the work whose result it is to hold.

  Raises:
    OSError: it is a folder, a pipe or the like, or it or its folder cannot be written.
    FileNotFoundError: there is no such folder.
  """
  path = Path(file)
  if not path.parent.exists():
    raise FileNotFoundError(f'there is no folder {path.parent} to write {path.name} in: make it')
  if path.exists() and not path.is_file() and not path.is_dir():
    # To open a pipe waits for a reader, and it could not be replaced by a file that is whole.
    raise OSError(f'{path} is a pipe or a device: give the name of a file')
  if path.exists():
    path.open('ab').close()
  else:
    with tempfile.TemporaryFile(dir=path.parent):
      pass
