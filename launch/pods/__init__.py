"""Where a job may run: one file per kind of machine, found by listing this folder."""

import importlib
import pkgutil
from types import ModuleType

from launch.pods.job import Job, Rendered
from movinet_jax.names import find

_NOT_TARGETS = {'check', 'job', 'manifest', 'script', 'topology'}


def list_targets() -> dict[str, str]:
  """Target -> module name: every file of this folder that is not machinery."""
  files = (module.name for module in pkgutil.iter_modules(__path__))
  return {name.replace('_', '-'): name for name in files if name not in _NOT_TARGETS}


def find_target(name: str) -> ModuleType:
  """The module of a target.

  It has `render(job) -> Rendered`, TOOL (the program that it needs, '' for none) and
  TAKES (the fields of a Job that it knows, of those that are not for every target).

  Raises:
    ValueError: there is none; names the nearest.
  """
  return importlib.import_module(f'{__name__}.{find(list_targets(), name, "target")}')


def render(job: Job, target: str) -> Rendered:
  """What will be run for a job on a target; nothing is written or run.

  Raises:
    ValueError: there is no such target, or it cannot run the job.
  """
  # Late: the supervisor of local processes, of this package too, needs no configs.
  from launch.pods.check import check_takes

  module = find_target(target)
  check_takes(job, target, module.TAKES)
  return module.render(job)
