"""Run a command of movinet elsewhere, or in several processes here.

  movinet submit --on=local --processes=2 -- train --config=FILE.py --workdir=runs/a
  movinet submit --on=slurm --nodes=2 --gpus=8 --time=24:00:00 --queue=gpu \\
      -- train --config=configs/movinet/kinetics600.py:a2-stream --workdir=/shared/a2 \\
      --config.train.accumulate=8
  movinet submit --on=gke --topology=v5e:8x16 --spot --image=REGION-docker.pkg.dev/… \\
      --mount=gs://BUCKET=/data -- search --config=FILE.py --workdir=/data/found
  movinet submit --on=tpu-vm --topology=v5e:16x16 --zone=us-west4-a --image=… \\
      --mount=gs://BUCKET=/data -- train --config=FILE.py --workdir=/data/a2
  movinet submit --on=slurm --nodes=16 --gpus=4 --secret=PGPASSWORD \\
      -- sweep --config=FILE.py --workdir=/shared/s --storage=postgresql://ME@HOST/DB

What comes after -- is the command, as it would be typed on one machine. With --dry_run,
or where the target's tool (sbatch, kubectl, gcloud) is not installed, nothing is run:
it prints what would be. A job that was stopped is started again up to --restarts times and
goes on from its workdir; one that failed for good is not. See docs/launching.md.
"""

import argparse
import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from launch import pods
from launch.arguments import at_least_1, make_parser, pair
from launch.pods.check import check_job, list_unmounted
from launch.pods.job import (
  Job,
  Mount,
  Rendered,
  find_workdir,
  make_name,
)
from launch.pods.targets import find_target, list_targets
from launch.pods.topology import find_topology
from launch.runs.kinds import RUNS
from launch.runs.ownership import check_owner
from movinet_jax.paths import find_local

_PLATFORMS = 'JAX_PLATFORMS'

LOOKS_AT_JOBS = True  # so it is no job itself


def main(argv: Sequence[str]) -> int:
  argv = list(argv)
  cut = argv.index('--') if '--' in argv else len(argv)
  words = tuple(argv[cut + 1 :])
  if not words and not {'-h', '--help'} & set(argv):
    raise ValueError('no command to run: end with it, as `-- train --config=FILE.py --workdir=DIR`')
  arguments = make_arguments().parse_args(argv[:cut])
  module = find_target(arguments.on)
  job = make_job(arguments, words)
  config = check_job(job)
  if job.directory and job.verb in RUNS:  # its workdir is on this machine
    check_owner(job.workdir, job.verb)
  rendered = _add_notes(pods.render(job, arguments.on), config, job)
  folder = find_folder(job, arguments.on)
  absent = bool(module.TOOL) and shutil.which(module.TOOL) is None
  if arguments.dry_run or absent:
    print(describe(rendered, folder))
    if absent:
      print(f'A dry run: {module.TOOL} is not installed here.', file=sys.stderr)
    return 0
  return submit(rendered, folder)


def _add_notes(rendered: Rendered, config, job: Job) -> Rendered:
  unmounted = list_unmounted(config, job) if job.mounts else []
  if not unmounted:
    return rendered
  note = f'looked for in the image, for no --mount is there: {", ".join(unmounted)}'
  return dataclasses.replace(rendered, notes=(*rendered.notes, note))


def make_job(arguments: argparse.Namespace, words: Sequence[str]) -> Job:
  """The job of a command line.

  Raises:
    ValueError: no such topology, or the command names no workdir.
  """
  takes = find_target(arguments.on).TAKES
  workdir = find_workdir(words)
  here = 'environment' in takes  # storage and programs are where they are here
  return Job(
    name=arguments.name or make_name(words[0], workdir),
    words=tuple(words),
    workdir=os.path.abspath(find_local(workdir)) if here else workdir,
    topology=find_topology(arguments.topology) if arguments.topology else None,
    nodes=arguments.nodes,
    gpus=arguments.gpus,
    gpu_type=arguments.gpu_type,
    cores=arguments.cores,
    processes=arguments.processes,
    image=arguments.image,
    environment=arguments.environment or (find_environment() if here else ''),
    directory=os.getcwd() if here else '',
    mounts=tuple(Mount(source, folder) for source, folder in arguments.mount),
    env=(*_choose_platforms(arguments), *arguments.env),
    secrets=tuple(arguments.secret),
    restarts=arguments.restarts,
    queue=arguments.queue,
    spot=arguments.spot,
    time=arguments.time,
    zone=arguments.zone,
  )


def _choose_platforms(arguments) -> list[tuple[str, str]]:
  """An accelerator that is not found is an error then, and not a run on the CPU."""
  kind = 'tpu' if arguments.topology else 'cuda' if arguments.gpus else ''
  chosen = any(key == _PLATFORMS for key, _ in arguments.env)
  return [(_PLATFORMS, f'{kind},cpu')] if kind and not chosen else []


def find_environment() -> str:
  """The virtual environment that this program runs in.

  Raises:
    ValueError: `movinet` is not installed in it.
  """
  programs = Path(sys.executable).parent
  if not (programs / 'movinet').is_file():
    raise ValueError(
      f'there is no {programs}/movinet: install this project there (make install), or '
      'say --environment=FOLDER'
    )
  return str(programs.parent)


def find_folder(job: Job, target: str) -> Path:
  """Where the files of a job are written: its workdir, if that can be reached here."""
  if 'environment' in find_target(target).TAKES:
    return Path(job.workdir, 'launch')
  return Path('runs', job.name, 'launch').absolute()


def describe(rendered: Rendered, folder: Path) -> str:
  """What a dry run prints: every file and command, and what to do next."""
  lines = []
  for name, text in rendered.files.items():
    lines += [f'Would write {folder / name}:', '', text]
  lines += [f'Would run in {folder}:', '']
  lines += [f'  {shlex.join(command)}' for command in rendered.commands]
  return '\n'.join([*lines, '', *_list_advice(rendered)])


def submit(rendered: Rendered, folder: Path) -> int:
  """Writes the files and runs the commands; the last one of a local job becomes this.

  Raises:
    ChildProcessError: a command failed, and has said why.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for name, text in rendered.files.items():
    (folder / name).write_text(text)
    print(f'wrote {folder / name}')
  *first, last = rendered.commands
  if rendered.foreground:
    print('\n'.join(_list_advice(rendered)), flush=True)
  for command in first if rendered.foreground else rendered.commands:
    print(f'+ {shlex.join(command)}', flush=True)
    code = subprocess.run(command, cwd=folder).returncode
    if code:
      raise ChildProcessError(f'{shlex.join(command)} ended with code {code}')
  if rendered.foreground:
    os.chdir(folder)
    # In place of this process, so that a signal to it reaches the job.
    os.execvp(last[0], last)
  print('\n'.join(['', *_list_advice(rendered)]))
  return 0


def _list_advice(rendered: Rendered) -> list[str]:
  lines = [f'note: {note}' for note in rendered.notes]
  width = max(len(what) for what, _ in rendered.follow_ups)
  lines += [f'{what + ":":{width + 1}} {how}' for what, how in rendered.follow_ups]
  return [*lines, f'{"resume:":{width + 1}} {rendered.resume}']


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('submit', __doc__)
  parser.usage = 'movinet submit --on=TARGET [options] -- VERB [its options]'
  add = parser.add_argument
  targets = ', '.join(list_targets())
  add('--on', required=True, metavar='TARGET', help=targets)
  add('--topology', default='', help='TPU slice, as v5e:16x16')
  add('--nodes', type=at_least_1, default=1, help='machines; of a sweep, coordinators')
  add('--gpus', type=at_least_1, default=0, help='of each node')
  add('--gpu-type', '--gpu_type', default='', help='as Slurm or GKE calls it')
  add('--cores', type=at_least_1, default=8, help='CPU cores of a process; default: 8')
  add('--processes', type=at_least_1, default=1, help='on this machine')
  add('--image', default='', help='container image that runs movinet')
  add('--environment', default='', help='virtual environment; default: this one')
  add(
    '--mount',
    type=pair,
    action='append',
    default=[],
    metavar='SOURCE=FOLDER',
    help='gs://BUCKET, HOST:/EXPORT or a PersistentVolumeClaim; may be repeated',
  )
  add('--name', default='', help='of the job; default: verb and workdir')
  add('--env', type=pair, action='append', default=[], metavar='KEY=VALUE')
  add(
    '--secret',
    action='append',
    default=[],
    metavar='NAME',
    help='an environment variable whose value is kept by the target',
  )
  add('--restarts', type=_at_least_0, default=50, help='after stops; default: 50')
  add('--queue', default='', help="Slurm's partition, Kueue's local queue")
  add('--spot', action='store_true', help='cheaper machines that may be taken away')
  add('--time', default='', help="Slurm's limit of a stretch, HOURS:MINUTES:SECONDS")
  add('--zone', default='', help='of Cloud TPUs')
  add('--dry-run', '--dry_run', action='store_true', help='print what would be run')
  return parser


def _at_least_0(text: str) -> int:
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number, 0 or more')
  return int(text)
