"""What makes a job wrong, found before anything is written."""

import dataclasses
import math
import re
from collections.abc import Sequence

from launch.config import parse_config
from launch.pods.job import Job, find_mount, find_option
from launch.runs.kinds import RUNS
from launch.verbs import find_verb, is_distributed, list_verbs
from movinet_jax import schema
from movinet_jax.names import check_name
from movinet_jax.train.mesh import MeshOptions

_LABEL = re.compile(r'[a-z]([-a-z0-9]*[a-z0-9])?')
_VARIABLE = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')
_LOCAL = re.compile(r'@(localhost|127\.|\[::1\])')  # of an address
_WORD = re.compile(r'[A-Za-z0-9][\w./:@-]*')  # of images, zones and kinds of GPU
_QUEUES = re.compile(rf'{_WORD.pattern}(,{_WORD.pattern})*')
# Fields of a Job that only some targets know, and what differs from their options.
_SOMETIMES = (
  *('topology', 'nodes', 'gpus', 'gpu_type', 'cores', 'processes', 'image'),
  *('environment', 'mounts', 'queue', 'spot', 'time', 'zone'),
)
_FLAGS = {'mounts': 'mount'}
_SYSTEM = (
  *('bin', 'boot', 'dev', 'etc', 'lib', 'lib64', 'opt', 'proc', 'root', 'run', 'sbin'),
  *('sys', 'tmp', 'usr', 'var', '.', '..'),
)
_PASSWORDS = (
  re.compile(r'://[^/\s:@]*:[^/\s@]*[^/\s@:]@'),
  # Of a database, whose address may have the rest of a path's characters in it.
  re.compile(r'(?i)postgres[a-z+0-9]*://[^/\s:@]*:\S*@'),
  re.compile(r'(?i)(password|passwd|pwd)=[^\s&]'),
)
_SECRET_NAME = re.compile(r'(?i)passw|secret|(^|_)tokens?(_|$)|api_?key|credential|private_?key')
# Where the images of this project have the program.
_PROGRAM = '/movinet'
BUCKET = r'gs://[a-z0-9]([a-z0-9._-]*[a-z0-9])?(/[\w./-]+)?'
EXPORT = r'(?!gs:)[\w.-]+:/\S*'  # of NFS


def check_job(job: Job):
  """Finds what is wrong with a job before anything is rendered.

  Returns:
    The Config of its run; None for a verb without one.

  Raises:
    ValueError: see the message.
  """
  check_name(job.verb, list_verbs(), 'verb')
  if getattr(find_verb(job.verb), 'LOOKS_AT_JOBS', False):
    raise ValueError(f'`movinet {job.verb}` is run here, it is no job')
  _check_words(job)
  _check_secrets(job)
  _check_machines(job)
  _check_study(job)
  config = _read_config(job)
  if config and not job.is_study:
    _check_shares(config, job)
  return config


def _read_config(job: Job):
  """Reads the command as its verb will: the Config of its run, None for a verb without one.

  Raises:
    ValueError, SystemExit: the verb would refuse it.
  """
  parser, words = find_verb(job.verb).make_arguments(), job.words[1:]
  if find_option(words, 'config'):
    config = parse_config(parser, words)[1].to_dict()
    return schema.build(RUNS[job.verb].Config, config, '') if job.verb in RUNS else None
  if job.verb in RUNS:
    raise ValueError(f'`movinet {job.verb}` needs --config=FILE.py')
  parser.parse_args(words)
  return None


def check_takes(job: Job, target: str, takes: Sequence[str]):
  """Whether all that is asked for is known to a target; nothing is left out silently.

  Args:
    takes: fields of a Job, of those that not every target knows.

  Raises:
    ValueError: names the option, and those that the target takes.
  """
  for field in dataclasses.fields(Job):
    given = field.name in _SOMETIMES and getattr(job, field.name) != field.default
    if given and field.name not in takes:
      known = ', '.join(f'--{_FLAGS.get(name, name)}' for name in takes)
      raise ValueError(
        f'--{_FLAGS.get(field.name, field.name)} is not for {target}, which takes {known}'
      )


def check_image(job: Job, target: str):
  if not job.image:
    raise ValueError(
      f'{target} runs a container: say --image=REGION-docker.pkg.dev/PROJECT/REPO/NAME '
      '(docs/launching.md builds one)'
    )


def check_mounts(job: Job, target: str, kinds: Sequence[str]):
  """Whether what the run writes outlives its machines, and storage is of known kinds.

  Args:
    kinds: patterns of sources.

  Raises:
    ValueError: see the message.
  """
  folders = [mount.folder for mount in job.mounts]
  for mount in job.mounts:
    if not any(re.fullmatch(kind, mount.source) for kind in kinds):
      raise ValueError(
        f'--mount={mount.source}=…: wanted gs://BUCKET[/FOLDER], HOST:/EXPORT'
        + (' or the name of a PersistentVolumeClaim' if target == 'gke' else '')
      )
    first = mount.folder.split('/')[1:2]
    if not re.fullmatch(r'(/[\w.-]+)+', mount.folder) or first[0] in _SYSTEM:
      raise ValueError(
        f"{mount.folder!r}: wanted a folder from / that is not the system's, as --mount=…=/data"
      )
    if folders.count(mount.folder) > 1 or mount.folder == _PROGRAM:
      other = 'the program itself' if mount.folder == _PROGRAM else 'another --mount'
      raise ValueError(f'{mount.folder} is where {other} is: take another folder')
  mount = find_mount(job, job.workdir)
  if not mount:
    raise ValueError(
      f'workdir {job.workdir} lies in no --mount, and goes when its machine does: say '
      '--mount=SOURCE=/data and a --workdir in /data'
    )
  if job.is_study and not _find_storage(job) and mount.source.startswith('gs://'):
    raise ValueError(
      f'the study would be a file in {mount.source}, and a bucket cannot lock files: '
      'say --storage=postgresql://USER@HOST/DATABASE after `sweep`'
    )


def list_unmounted(config, job: Job) -> list[str]:
  """--config.KEY=FOLDER of all that a job with mounts would look for in its image."""
  if not config:
    return []
  # A run that another begins with, and data.
  places = {key: getattr(config, key, None) for key in ('init', 'inherit')}
  for split in ('train', 'eval'):
    options = getattr(config.data, split) or {}
    places |= {
      f'data.{split}.{key}': options[key] for key in ('root', 'path', 'directory') if key in options
    }
  return [
    f'--config.{key}={place}'
    for key, place in places.items()
    if isinstance(place, str) and place and not find_mount(job, place)
  ]


def _check_words(job: Job):
  if not _LABEL.fullmatch(job.name) or len(job.name) > 63:
    raise ValueError(
      f'name {job.name!r}: wanted a DNS label of at most 63 letters a-z, digits and '
      'hyphens, that begins with a letter'
    )
  for what in ('queue', 'image', 'gpu_type', 'zone'):
    text, pattern = getattr(job, what), _QUEUES if what == 'queue' else _WORD
    if text and not pattern.fullmatch(text):
      raise ValueError(
        f'{what} {text!r}: wanted letters, digits and, after the first, any of . / : @ - _'
      )
  if job.time and not re.fullmatch(r'(\d+-)?\d+:\d\d:\d\d', job.time):
    raise ValueError(f'time {job.time!r}: wanted HOURS:MINUTES:SECONDS, as 24:00:00')
  folders = {m.folder: 'mount' for m in job.mounts} | {job.workdir: 'workdir'}
  folders |= {job.environment: 'environment', job.directory: 'directory'}
  for text, what in folders.items():
    if not text.isprintable():
      raise ValueError(f'{what} {text!r}: wanted a path without control characters')
    if '..' in text.split('/'):
      raise ValueError(f'{what} {text!r}: wanted a path without ..')
  if '\0' in ''.join((*job.words, *(value for _, value in job.env))):
    raise ValueError('an argument has a NUL in it, which no command line can have')
  if job.workdir.startswith('gs://'):
    raise ValueError(
      f'workdir {job.workdir}: a run writes to a file system; mount the bucket, as '
      f'--mount={job.workdir}=/data -- {job.verb} --workdir=/data/run'
    )


def _check_secrets(job: Job):
  for name in (*(key for key, _ in job.env), *job.secrets):
    if not _VARIABLE.fullmatch(name):
      # Perhaps a value is given with it, which is not to be shown.
      name, equals, _ = name.partition('=')
      more = ': say the name alone, its value is kept elsewhere' if equals else ''
      raise ValueError(f'{name + equals!r} is no name of an environment variable{more}')
  for key, value in job.env:
    if _SECRET_NAME.search(key) or _has_password(value):
      raise ValueError(
        f'--env={key}=… would be written where others can read it: say --secret={key}, '
        'and keep its value where the target keeps secrets (docs/launching.md)'
      )
    if key in job.secrets:
      raise ValueError(f'{key} is given with --env and with --secret; wanted one')
  for word in job.words:
    if _has_password(word):
      what = word.partition('=')[0] if word.startswith('--') else 'an argument'
      raise ValueError(
        f'{what} holds a password, which others would see: leave it out of the '
        'address, as postgresql://USER@HOST/DATABASE, and say --secret=PGPASSWORD'
      )


def _has_password(text: str) -> bool:
  return any(pattern.search(text) for pattern in _PASSWORDS)


def _check_machines(job: Job):
  schema.verify(job)
  if job.topology and job.gpus:
    raise ValueError(f'{job.topology.name} and {job.gpus} GPUs; wanted one of the two')
  if job.topology and job.nodes > 1 and not job.is_study:
    raise ValueError(
      f'{job.nodes} nodes of {job.topology.name}: one run takes one slice; say a '
      f'larger --topology, of {job.devices} chips'
    )
  if job.topology and job.cores != Job.cores:
    raise ValueError(f'--cores={job.cores}: a process on TPUs has all of its host')
  if job.gpu_type and not job.gpus:
    raise ValueError(f'--gpu_type={job.gpu_type} of how many? Say --gpus=N of each node')
  several = max(job.processes, job.hosts) > 1
  if several and not job.is_study and not is_distributed(job.verb):
    known = ', '.join(filter(is_distributed, list_verbs()))
    raise ValueError(f'`movinet {job.verb}` is one process; several are for {known} and for sweep')


def _check_study(job: Job):
  if not job.is_study:
    return
  if job.processes > 1:
    raise ValueError(
      'a sweep starts its trials by itself: say --workers after `sweep`, in place of '
      f'--processes={job.processes}'
    )
  if job.topology and job.topology.hosts > 1:
    raise ValueError(
      f'a trial takes one chip, and {job.topology.name} is one machine of '
      f'{job.topology.hosts} hosts: say a --topology of one host and --nodes='
      f'{job.topology.hosts}'
    )
  storage = _find_storage(job)
  alone = not storage.startswith('postgres') or _LOCAL.search(storage)
  if job.hosts > 1 and alone:
    raise ValueError(
      f'a sweep on {job.hosts} machines needs a database that they share: say '
      '--storage=postgresql://USER@HOST/DATABASE after `sweep`'
    )


def _find_storage(job: Job) -> str:
  return find_option(job.words, 'storage')


def _check_shares(config, job: Job):
  """Divides the batches of a run, and the candidates of a search, by its devices.

  Raises:
    ValueError: they do not; names the nearest that do.
  """
  split = vars(getattr(config, 'mesh', None) or MeshOptions())
  shared = math.prod(split.values())
  devices = max(job.devices, job.processes, job.hosts)
  if devices % shared:
    raise ValueError(
      f'a mesh of {split} needs devices in multiples of {shared}; there are {devices}'
    )
  parts, sharing = devices // shared, 'devices'
  # A search's devices share its candidates, and they the clips; evaluation rounds its own.
  for key in ('candidates', 'batch_size', 'policy_batch_size'):
    size = getattr(config, key, None)
    if size and size % parts:
      raise ValueError(
        f'{key} is {size}, which {parts} {sharing} do not divide: say '
        f'--config.{key}={max(parts, round(size / parts) * parts)}'
      )
    if key == 'candidates' and size:
      parts, sharing = size, key
