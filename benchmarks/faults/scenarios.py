"""All faults there are: the public functions of these files that end in a Report."""

import inspect
from collections.abc import Callable

from benchmarks.faults import disk, processes, sweeps
from benchmarks.faults.report import Report

_FILES = (processes, disk, sweeps)


def list_scenarios() -> dict[str, Callable]:
  """Name -> function of a Place, in the order in which the files have them."""
  return {
    name: member
    for file in _FILES
    for name, member in vars(file).items()
    if inspect.isfunction(member)
    and member.__module__ == file.__name__
    and not name.startswith('_')
    and inspect.signature(member).return_annotation is Report
  }
