"""One description of a job, and of what a target makes of it."""

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath

from launch.errors import ExitCode, is_retriable
from launch.pods.topology import Topology
from movinet_jax.schema import Count, Natural

# How long a run may take to save itself once it is asked to stop. Slurm's signal,
# Kubernetes' grace and the supervisor of local processes all give it this much.
SAVE_SECS = 120
# How long the processes of a run may go on after one of them has failed: JAX notices a
# lost peer in well under that, and then they end by themselves.
PEER_SECS = 300
# The codes that a person must act on: those of `movinet`, docker's own, and a shell's for a
# command that is not there.
PERMANENT = (*(int(code) for code in ExitCode if code and not is_retriable(code)), 125, 126, 127)


@dataclasses.dataclass(frozen=True)
class Mount:
  """Shared storage, as a folder of every machine.

  Attributes:
    source: 'gs://BUCKET[/FOLDER]', 'HOST:/EXPORT' (NFS, Filestore), or the name of a
      PersistentVolumeClaim.
    folder: where it appears.
  """

  source: str
  folder: str


@dataclasses.dataclass(frozen=True)
class Job:
  """What is to run, and on what.

  Attributes:
    name: a DNS label, of what the job is called where it runs.
    words: the verb and its arguments.
    workdir: of the run, on the machines that it runs on.
    topology: a TPU slice; None where `nodes` say it.
    nodes: machines with GPUs or none; of a sweep, how many coordinators of trials.
    gpus: of each node.
    gpu_type: as Slurm or GKE calls it; '' for any.
    cores: CPU cores of each process, which decode videos.
    processes: of a job on this machine.
    image: container image whose entry point is `movinet`.
    environment: virtual environment with `movinet`, on every machine.
    directory: where the command is run, so that configs and data are found.
    mounts: shared storage of machines that are made for the job.
    env: of every process.
    secrets: names of further environment variables. Values are never part of a job.
    restarts: how often it may go on after it was stopped.
    queue: Slurm's partition or Kueue's local queue.
    spot: machines that may be taken away, for less money.
    time: Slurm's limit of one stretch, 'HOURS:MINUTES:00'.
    zone: of Cloud TPUs.
  """

  name: str
  words: tuple[str, ...]
  workdir: str
  topology: Topology | None = None
  nodes: Count = 1
  gpus: Natural = 0
  gpu_type: str = ''
  cores: Count = 8
  processes: Count = 1
  image: str = ''
  environment: str = ''
  directory: str = ''
  mounts: tuple[Mount, ...] = ()
  env: tuple[tuple[str, str], ...] = ()
  secrets: tuple[str, ...] = ()
  restarts: Natural = 50
  queue: str = ''
  spot: bool = False
  time: str = ''
  zone: str = ''

  @property
  def verb(self) -> str:
    return self.words[0]

  @property
  def command(self) -> tuple[str, ...]:
    return ('movinet', *self.words)

  @property
  def is_study(self) -> bool:
    """Whether its machines are coordinators of trials that share a database."""
    return self.verb == 'sweep'

  @property
  def hosts(self) -> int:
    return self.nodes * (self.topology.hosts if self.topology else 1)

  @property
  def devices(self) -> int:
    """Accelerators of the whole job; 0 where it has none."""
    return self.nodes * (self.topology.chips if self.topology else self.gpus)


@dataclasses.dataclass(frozen=True)
class Rendered:
  """What a target makes of a job.

  Attributes:
    files: name -> text, of one folder.
    commands: words of each, run one after another in that folder.
    follow_ups: (what one may want next, the shell line for it).
    notes: what one should know before.
    foreground: whether the last command lasts as long as the job.
    resume: what to do after a stop.
  """

  files: dict[str, str]
  commands: tuple[tuple[str, ...], ...]
  follow_ups: tuple[tuple[str, str], ...]
  notes: tuple[str, ...] = ()
  foreground: bool = False
  resume: str = 'the same command, with the same workdir'


def make_name(verb: str, workdir: str) -> str:
  """A DNS label for a job without a name: 'train-a2-41c7' for /runs/a2.

  Another workdir that ends in the same word has another name.
  """
  last = PurePosixPath(workdir).name.lower()
  words = re.sub(r'[^a-z0-9]+', '-', f'{verb}-{last}').strip('-')
  digest = hashlib.sha256(workdir.encode()).hexdigest()[:4]
  return f'{words[:35].rstrip("-")}-{digest}'


def find_option(words: Sequence[str], name: str) -> str:
  """The last value of --NAME among a command's words; '' if there is none."""
  value = ''
  for i, word in enumerate(words):
    if word.startswith(f'--{name}='):
      value = word.partition('=')[2]
    elif word == f'--{name}' and i + 1 < len(words):
      value = words[i + 1]
  return value


def find_workdir(words: Sequence[str]) -> str:
  """The folder that a restart goes on from.

  Raises:
    ValueError: the command names none.
  """
  found = find_option(words, 'workdir') or find_option(words, 'checkpoint')
  if not found:
    raise ValueError(
      f'`movinet {words[0]} …` names no --workdir: a job that is restarted goes on from there'
    )
  return found


def find_mount(job: Job, path: str) -> Mount | None:
  """The mount of a job that a path lies in."""
  inside = (m for m in job.mounts if f'{path}/'.startswith(f'{m.folder}/'))
  return max(inside, key=lambda mount: len(mount.folder), default=None)


def list_boards(job: Job) -> tuple[tuple[str, str], ...]:
  """The pages to look at a run with: TensorBoard, or the dashboard of a study."""
  if job.is_study:
    storage = find_option(job.words, 'storage') or f'sqlite:///{job.workdir}/study.db'
    return (('dashboard', shlex.join(['optuna-dashboard', storage])),)
  logdir, where = job.workdir, ''
  if job.verb != 'compare':  # which has a folder for each training
    logdir += '/tensorboard'
  if mount := find_mount(job, job.workdir):
    inside = logdir.removeprefix(mount.folder)
    if mount.source.startswith('gs://'):  # which can be read from anywhere
      logdir = mount.source.rstrip('/') + inside
    else:
      where = f'  # where {mount.source} is mounted as {mount.folder}'
  return (('TensorBoard', shlex.join(['tensorboard', f'--logdir={logdir}']) + where),)
