"""Jobs that the tests of all targets share."""

import os
import pathlib
import shutil
import sys

from launch.pods.job import Job, Mount
from launch.pods.topology import find_topology

TRAIN = 'configs/movinet/kinetics600.py:a2-stream'
_STORAGE = '--storage=postgresql://me@db.example/studies'
_HERE = {'environment': '/envs/movinet', 'directory': '/home/me/movinet'}
_CLOUD = {'image': 'us-docker.pkg.dev/mine/repo/movinet'}
_BUCKET = (Mount('gs://mine/runs', '/data'), Mount('10.0.0.2:/share', '/videos'))


def make(words, workdir, **changed) -> Job:
  words = (*words, f'--workdir={workdir}')
  return Job(name=f'{words[0]}-a2', words=words, workdir=workdir, **changed)


def make_train(workdir='/shared/a2', **changed) -> Job:
  return make(('train', f'--config={TRAIN}'), workdir, **changed)


def make_sweep(workdir='/shared/sweep', **changed) -> Job:
  words = ('sweep', '--config=configs/sweep/x3d.py', _STORAGE)
  return make(words, workdir, secrets=('PGPASSWORD',), **changed)


_POD = find_topology('v5e:16x16')
_HOST = find_topology('v5e:2x4')

# Target -> name -> job: what there is a golden file for and every contract holds for.
JOBS = {
  'local': {
    'train': make_train(processes=2, env=(('JAX_PLATFORMS', 'cpu'),), **_HERE),
    'sweep': make_sweep(**_HERE),
  },
  'slurm': {
    'train': make_train(
      **{'nodes': 2, 'gpus': 8, 'gpu_type': 'h100', 'cores': 12, 'queue': 'gpu'},
      **{'time': '24:00:00', 'env': (('NCCL_DEBUG', 'INFO'),)},
      **_HERE,
    ),
    'sweep': make_sweep(nodes=16, gpus=4, **_HERE),
    'cpu': make_train('/shared/it has spaces', restarts=3, **_HERE),
  },
  'gke': {
    'train': make_train(
      '/data/a2', topology=_POD, spot=True, queue='team', mounts=_BUCKET, **_CLOUD
    ),
    'gpus': make_train(
      *('/data/a2',),
      **{'nodes': 4, 'gpus': 8, 'gpu_type': 'nvidia-h100-80gb', 'restarts': 7},
      **{'env': (('PRICE', 'costs $(HOME) or $5'),), 'secrets': ('WANDB_API_KEY',)},
      **{'mounts': (Mount('claim', '/data'),)},
      **_CLOUD,
    ),
    'sweep': make_sweep('/data/s', topology=_HOST, nodes=8, mounts=_BUCKET, **_CLOUD),
  },
  'tpu-vm': {
    'train': make_train(
      '/data/a2', topology=_POD, spot=True, zone='us-west4-a', mounts=_BUCKET, **_CLOUD
    ),
    'sweep': make_sweep(
      '/data/s', topology=_HOST, nodes=8, zone='us-west4-a', mounts=_BUCKET, **_CLOUD
    ),
  },
}
ALL = [(target, name) for target, known in JOBS.items() for name in known]

# None of these may be read by a shell, a YAML reader or Kubernetes as anything else.
HOSTILE = (
  *(
    "it's",
    'a "b" c',
    '$(touch planted)',
    '`touch planted`',
    '$HOME ${HOME}',
    '$$ $(A)',
  ),
  *(
    'a\nb',
    '; touch planted',
    '&& touch planted',
    '*',
    '~',
    '',
    ' ',
    '\\',
    '\\n',
    '#x',
  ),
  *(
    'yes',
    'null',
    '1e3',
    '0x10',
    '007',
    '1_000',
    '{{ x }}',
    '%j',
    '-',
    '--',
    'ключ',
    '💥',
  ),
  *(
    'x: y',
    '- x',
    '!!int 3',
    '&a',
    '*a',
    '@',
    '|',
    '>',
    '\t',
    "'",
    '"',
    'a' * 300,
    'y',
  ),
)


def find_program(name: str) -> str | None:
  """A linter, which pip puts beside this Python, or which is on the PATH."""
  beside = pathlib.Path(sys.executable).parent
  return shutil.which(name, path=f'{beside}{os.pathsep}{os.environ.get("PATH", "")}')
