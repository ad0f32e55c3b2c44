"""Disks that are full, and workdirs that cannot be written."""

import contextlib
import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.job import obeys_permissions
from benchmarks.faults.report import Report
from benchmarks.faults.run import STRUCK, Place, Run

_DISK_MIB = 16  # holds the run, until it is filled
_NO_WRITING, _NOTHING = 0o555, 0o000  # what may be done in a folder


class CannotHere(RuntimeError):
  """This machine does not let the fault be made: it wants root, or another system."""


def fill_the_disk(place: Place) -> Report:
  """the disk of the workdir is full; then there is room again"""
  return _fill(place, 'fill_the_disk', spare_bytes=0)


def fill_the_disk_but_for_lines(place: Place) -> Report:
  """the disk has room for a line of metrics, and not for a checkpoint"""
  return _fill(place, 'fill_the_disk_but_for_lines', spare_bytes=1 << 15)


def _fill(place, name, spare_bytes) -> Report:
  with mount_disk(place) as disk:
    run = Run(place, name, workdir=disk / 'run')
    with run.start() as job:
      job.await_until(run.is_at(STRUCK))
      run.remember()
      began = time.monotonic()
      fill(disk, spare_bytes)
      secs = job.await_end() - began
      job.expect({os.EX_IOERR})
    says = job.read_last_line()
    (disk / 'filler').unlink()
    resumed_secs = run.go_on()
    note = f'{run.count_repeated()} steps made again'
    return Report('nothing', secs, resumed_secs, job.codes, says, note)


def begin_where_nothing_can_be_written(place: Place) -> Report:
  """the workdir cannot be written when the run begins"""
  return _begin(place, 'begin_where_nothing_can_be_written', _NO_WRITING)


def begin_where_nothing_can_be_read(place: Place) -> Report:
  """the workdir cannot be read when the run begins"""
  return _begin(place, 'begin_where_nothing_can_be_read', _NOTHING)


def forbid_writing(place: Place) -> Report:
  """the workdir cannot be written any more in the middle of a run"""
  return _forbid(place, 'forbid_writing', _NO_WRITING)


def forbid_reading(place: Place) -> Report:
  """the workdir cannot be read any more, either, in the middle of a run"""
  return _forbid(place, 'forbid_reading', _NOTHING)


def _begin(place, name, mode) -> Report:
  run = Run(place, name)
  with set_mode(run.workdir, mode), run.start() as job:
    secs = job.await_end() - job.began
    job.expect({2})
  says = job.read_last_line()
  if str(run.workdir) not in says:
    raise RuntimeError(f'{says!r} does not name {run.workdir}')
  return Report('nothing', secs, run.go_on(), job.codes, says)


def _forbid(place, name, mode) -> Report:
  run = Run(place, name)
  with run.start() as job:
    job.await_until(lambda: run.is_at(STRUCK)() and not run.is_writing())
    run.remember()
    began = time.monotonic()
    with set_mode(run.workdir / 'checkpoints', mode):
      secs = job.await_end() - began
    job.expect({2})
  says = job.read_last_line()
  note = f'{run.count_repeated()} steps made again'
  return Report('nothing', secs, run.go_on(), job.codes, says, note)


@contextlib.contextmanager
def mount_disk(place: Place, size_mib: int = _DISK_MIB) -> Iterator[Path]:
  """A small disk, in memory.

  Raises:
    CannotHere: mounting is not allowed.
  """
  folder = Path(tempfile.mkdtemp(prefix='disk-', dir=place.folder))
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={size_mib}m', 'tmpfs', str(folder)]
  _try(mount, 'mounting a small disk')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def fill(disk: Path, spare_bytes: int = 0):
  """Fills a disk to the last byte, or all but so many."""
  with (disk / 'filler').open('ab', buffering=0) as file:
    for size in (1 << 16, 1):
      with contextlib.suppress(_Full):
        while True:
          _write(file, bytes(size))
    file.truncate(file.tell() - spare_bytes)


class _Full(Exception):
  pass


def _write(file, block):
  try:
    file.write(block)
  except OSError as error:
    if error.errno != errno.ENOSPC:
      raise
    raise _Full from error


@contextlib.contextmanager
def set_mode(folder: Path, mode: int) -> Iterator[None]:
  """A folder's permissions, for a while; jobs obey them even if they are root's.

  Raises:
    CannotHere: they would not.
  """
  if not obeys_permissions():
    raise CannotHere('that permissions bind root needs setpriv')
  before = folder.stat().st_mode
  folder.chmod(mode)
  try:
    yield
  finally:
    folder.chmod(before)


def _try(command, what):
  try:
    subprocess.run(command, check=True, capture_output=True, text=True)
  except FileNotFoundError as error:
    raise CannotHere(f'{what} needs {command[0]}') from error
  except subprocess.CalledProcessError as error:
    raise CannotHere(f'{what} is not possible here: {error.stderr.strip()}') from error
