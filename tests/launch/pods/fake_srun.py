"""Slurm as a job script sees it: srun starts real processes, requeue starts again.

  submitted = run_job(rendered.files['job.sh'], tmp_path, tasks=2)

As a program it is `srun`: every task gets what Slurm's own would tell it, and it ends
with the highest code of any. `scontrol requeue` leaves a mark, `squeue` prints FAKE_STATE.
"""

import contextlib
import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

_REQUEUE = 'requeued'  # the mark, in the folder of the programs
_ID = '4711'  # of a job; FAKE_ID in place of it is that of a task of an array


def install(folder: pathlib.Path) -> dict[str, str]:
  """Puts srun, scontrol and squeue in a folder; returns the environment for them."""
  folder.mkdir(parents=True, exist_ok=True)
  programs = {
    'srun': f'exec {sys.executable} {os.path.abspath(__file__)} "$@"',
    'scontrol': f'echo "$@" >> {folder}/{_REQUEUE}',
    # Asked for a number that is not this task's alone, it tells of others, too.
    'squeue': f'echo "${{FAKE_STATE:-RUNNING}}"\n'
    f'[[ " $* " == *" --jobs=${{FAKE_ID:-{_ID}}} "* ]] || echo PENDING',
  }
  for name, line in programs.items():
    path = folder / name
    path.write_text(f'#!/bin/bash\n{line}\n')
    path.chmod(0o755)
  return {'PATH': f'{folder}:{os.environ["PATH"]}'}


def start(
  script: str, folder: pathlib.Path, tasks: int, restart: int = 0, **env: str
) -> subprocess.Popen:
  """Runs a job script once, as Slurm does: from its --chdir, its output appended."""
  path = folder / 'job.sh'
  path.write_text(script)
  (chdir,) = re.findall(r'^#SBATCH --chdir=(\S+)$', script, re.MULTILINE)
  told = {'SLURM_JOB_ID': _ID, 'SLURM_NTASKS': str(tasks)}
  if restart:
    told['SLURM_RESTART_COUNT'] = str(restart)
  with (folder / 'output.txt').open('ab') as output:
    return subprocess.Popen(
      ['bash', path],
      cwd=chdir,
      env={**os.environ, **install(folder / 'slurm'), **told, **env},
      stdout=output,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )


def run_job(
  script: str, folder: pathlib.Path, tasks: int, timeout: float = 300, **env: str
) -> list[int]:
  """Runs a job script to its end, again whenever it asks to be requeued.

  Returns:
    The code of every start. What was printed is in output.txt of the folder.
  """
  codes = []
  while not codes or take_requeue(folder, env.get('FAKE_ID', _ID)):
    process = start(script, folder, tasks, restart=len(codes), **env)
    with ending(process):
      codes.append(process.wait(timeout))
  return codes


def take_requeue(folder: pathlib.Path, number: str = _ID) -> bool:
  """Whether the script asked for it; asked once, it is forgotten."""
  mark = folder / 'slurm' / _REQUEUE
  asked = mark.is_file() and mark.read_text() == f'requeue {number}\n'
  mark.unlink(missing_ok=True)
  return asked


@contextlib.contextmanager
def ending(process):
  """Nothing that it started is left behind."""
  try:
    yield process
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)


def main(argv) -> int:
  """srun."""
  options = list(itertools.takewhile(lambda word: word.startswith('--'), argv))
  command = argv[len(options) :]
  waits = [float(o.partition('=')[2]) for o in options if o.startswith('--wait=')]
  tasks = [
    subprocess.Popen(command, env={**os.environ, **tell(i)})
    for i in range(int(os.environ['SLURM_NTASKS']))
  ]

  def forward(number, frame):
    for task in tasks:
      task.send_signal(number)

  signal.signal(signal.SIGTERM, forward)
  deadline = None
  while any(task.poll() is None for task in tasks):
    time.sleep(0.05)
    if deadline is None and any(task.poll() is not None for task in tasks):
      deadline = time.monotonic() + (waits[-1] if waits else 1e9)
    if deadline is not None and time.monotonic() > deadline:
      for task in tasks:
        task.kill()
  codes = [task.returncode for task in tasks]
  return max(128 - code if code < 0 else code for code in codes)


def tell(i: int) -> dict[str, str]:
  """What Slurm tells a task, all of them on one node."""
  return {
    'SLURM_PROCID': str(i),
    'SLURM_LOCALID': str(i),
    'SLURM_STEP_NODELIST': '127.0.0.1',
    'SLURM_STEP_NUM_NODES': '1',
  }


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
