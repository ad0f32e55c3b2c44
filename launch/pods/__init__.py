"""One description of a job, and what each kind of machine makes of it."""

from launch.pods.job import Job, Rendered
from launch.pods.targets import find_target


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
