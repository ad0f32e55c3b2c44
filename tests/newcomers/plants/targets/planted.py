"""A machine that is told by a file."""

import shlex

from launch.pods.job import Job, Rendered

TOOL, TAKES = '', ('environment',)


def render(job: Job) -> Rendered:
  text = shlex.join(job.command) + '\n'
  return Rendered({'planted.txt': text}, (('cat', 'planted.txt'),), (('look', 'ls'),))
