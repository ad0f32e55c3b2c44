"""Slurm: an sbatch script, one task per GPU; of a trial study, an array of machines."""

import shlex

from launch.pods import job as jobs
from launch.pods.job import Job, Rendered
from launch.pods.script import RETRIES, RUN, make_array, make_exports
from launch.verbs import is_distributed

TOOL = 'sbatch'
TAKES = ('nodes', 'gpus', 'gpu_type', 'cores', 'environment', 'queue', 'time')
FILE = 'job.sh'

# A task's code is mapped such that the highest, which is what srun ends with, says what
# to do: 1 is for all that may be retried, so a task that must not be is above it.
_TASK = f"""
{RUN}
# shellcheck disable=SC2329 # called by srun, below
task() {{
  run "$@"
  local code=$?
  ((code == 0)) && return 0
  echo "process ${{SLURM_PROCID:-0}} ended with code $code" >&2
  {RETRIES} && return 1
  ((code == 1)) && return 3
  return "$code"
}}
"""

_END = """
# Of an array, the first task has the number of the whole.
id=$SLURM_JOB_ID
[[ -n ${{SLURM_ARRAY_JOB_ID:-}} ]] && id=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID

# All processes end soon after one of them; those that hang are killed. A stop of the
# job reaches them by Slurm, which signals them all, and by srun.
run srun {options} \\
  bash -c "$(declare -f run task); task \\"\\$@\\"" task "${{command[@]}}"
code=$?
((code == 1 || code > 128)) || exit "$code"

# Stopped after saving, or lost: the same command goes on from there.
if ((attempt >= restarts)); then
  echo "not started again: this was start $((attempt + 1)) and --restarts=$restarts" >&2
  exit 75
fi
# A job that was cancelled is not running any more, and stays so.
if [[ $(squeue --noheader --jobs="$id" --format=%T) == RUNNING ]]; then
  scontrol requeue "$id"
fi
exit 75
"""


def render(job: Job) -> Rendered:
  """The script of a job, and how to look after it.

  Raises:
    ValueError: Slurm cannot run it so.
  """
  _check(job)
  log = f'{job.workdir}/logs/slurm-{"%A_%a" if _is_array(job) else "%j"}.out'
  words = ('sbatch', FILE)
  return Rendered(
    files={FILE: _make_script(job, log)},
    commands=(('mkdir', '-p', f'{job.workdir}/logs'), words),
    follow_ups=(
      ('state', shlex.join(['squeue', f'--name={job.name}'])),
      ('log', f'tail -F {shlex.quote(job.workdir)}/logs/slurm-*.out'),
      ('stop', shlex.join(['scancel', f'--name={job.name}'])),
      *jobs.list_boards(job),
    ),
    notes=_list_notes(job),
  )


def _make_script(job: Job, log: str) -> str:
  options = ''.join(f'#SBATCH {option}\n' for option in _list_options(job, log))
  path = f'export PATH={shlex.quote(f"{job.environment}/bin")}:"$PATH"\n'
  return (
    f'#!/bin/bash\n{options}'
    f'\nset -u\nrestarts={job.restarts}\nattempt=${{SLURM_RESTART_COUNT:-0}}\n'
    + ''.join(_make_need(name) for name in job.secrets)
    + (path if job.environment else '')
    + make_exports(job.env)
    + make_array('command', job.command)
    + _TASK
    + _END.format(options=_make_step(job))
  )


def _list_options(job: Job, log: str) -> list[str]:
  """sbatch's, which it reads as a shell would, but for '%' in the name of a log."""
  # A command that is given twice waits for itself, and goes on from what it finds.
  array = f'--array=0-{job.nodes - 1}' if _is_array(job) else ''
  kind = f'{job.gpu_type}:' if job.gpu_type else ''
  return [
    f'--job-name={job.name}',
    array or '--dependency=singleton',
    f'--nodes={1 if job.is_study else job.nodes}',
    f'--ntasks-per-node={_count_tasks(job)}',
    # Of all tasks of a node together: JAX picks each task's own.
    *([f'--gpus-per-node={kind}{job.gpus}'] if job.gpus else []),
    f'--cpus-per-task={job.cores}',
    *([f'--time={job.time}'] if job.time else []),
    *([f'--partition={job.queue}'] if job.queue else []),
    f'--signal=TERM@{jobs.SAVE_SECS}',
    '--requeue',
    '--open-mode=append',
    f'--chdir={shlex.quote(job.directory)}',
    f'--output={shlex.quote(_escape(job.workdir) + log.removeprefix(job.workdir))}',
  ]


def _is_array(job: Job) -> bool:
  return job.is_study and job.nodes > 1


def _count_tasks(job: Job) -> int:
  """Of each node: verbs that are one process have all of its GPUs, or their trials do."""
  return max(1, job.gpus) if is_distributed(job.verb) else 1


def _make_step(job: Job) -> str:
  # srun does not take the cores from sbatch since Slurm 22.05.
  options = [f'--cpus-per-task={job.cores}', '--kill-on-bad-exit=0']
  return shlex.join([*options, f'--wait={jobs.PEER_SECS}'])


def _make_need(name: str) -> str:
  return f': "${{{name}:?must be in the environment that sbatch is called in}}"\n'


def _escape(path: str) -> str:
  return path.replace('\\', '\\\\').replace('%', '%%')


def _check(job: Job):
  for what in ('workdir', 'directory', 'environment'):
    path = getattr(job, what)
    if path and (not path.startswith('/') or '\\' in path):
      raise ValueError(
        f'{what} {path!r}: wanted a path from / that all nodes see, without backslashes'
      )
  if job.time and _count_secs(job.time) <= jobs.SAVE_SECS:
    raise ValueError(
      f'time {job.time}: wanted more than the {jobs.SAVE_SECS} seconds that a run is given '
      'to save itself'
    )


def _count_secs(time: str) -> int:
  days, _, clock = time.rpartition('-')
  hours, minutes, secs = map(int, clock.split(':'))
  return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + secs


def _list_notes(job: Job) -> tuple[str, ...]:
  notes = []
  if job.workdir.startswith(('/tmp/', '/var/tmp/', '/dev/shm/')):
    notes.append(f'{job.workdir} is usually of one machine only; all nodes must see it')
  if not job.time:
    notes.append("without --time the partition's own limit holds")
  for name in job.secrets:
    notes.append(f'{name} is taken from the environment in which sbatch is called')
  return tuple(notes)
