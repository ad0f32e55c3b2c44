"""Cloud TPU virtual machines: a queued resource, whose hosts run a start-up script.

The script is run on every host at every boot, so a slice that was restarted goes on by
itself. A spot slice that was taken away is gone: the same command asks for it again.
"""

import shlex

from launch.pods import job as jobs
from launch.pods.check import BUCKET, EXPORT, check_image, check_mounts
from launch.pods.job import Job, Mount, Rendered
from launch.pods.script import RETRIES, RUN, make_array

TOOL = 'gcloud'
TAKES = ('topology', 'nodes', 'image', 'mounts', 'spot', 'zone')
FILE = 'startup.sh'

_BEGIN = """\
#!/bin/bash
# Run by every host of the slice at every boot; its output is in the journal.
set -u
export HOME=/root # gcloud and docker keep their logins there
export DEBIAN_FRONTEND=noninteractive

# A network that is not there yet is waited for, up to ten minutes.
insist() {
  local tries=0
  until "$@"; do
    ((++tries < 60)) || exit 69
    sleep 10
  done
}
"""

_GCSFUSE = """
# shellcheck disable=SC2329 # called by insist
install_gcsfuse() {
  local keys=/usr/share/keyrings/cloud.google.asc
  local site=https://packages.cloud.google.com/apt
  curl --fail --silent --show-error --output "$keys" "$site/doc/apt-key.gpg" &&
    echo "deb [signed-by=$keys] $site gcsfuse-$(lsb_release -cs) main" \\
      >/etc/apt/sources.list.d/gcsfuse.list &&
    apt-get update && apt-get install --yes gcsfuse
}
command -v gcsfuse || insist install_gcsfuse
"""

_NFS = """
# shellcheck disable=SC2329 # called by insist
install_nfs() { apt-get update && apt-get install --yes nfs-common; }
command -v mount.nfs || insist install_nfs
"""

_END = f"""
{RUN}
for ((start = 1; start <= restarts + 1; start++)); do
  docker rm --force movinet >/dev/null 2>&1
  run "${{command[@]}}"
  code=$?
  echo "start $start of the run ended with code $code"
  {RETRIES} || exit "$code"
  sleep 10
done
echo "not started again: --restarts=$restarts are used up"
exit 75
"""


def render(job: Job) -> Rendered:
  """The start-up script and gcloud's command, and how to look after it.

  Raises:
    ValueError: it cannot run so.
  """
  _check(job)
  zone = f'--zone={job.zone}'
  node = f'{job.name}-0' if job.nodes > 1 else job.name
  tpu = ('gcloud', 'compute', 'tpus')
  journal = 'sudo journalctl --follow --unit=google-startup-scripts'
  ssh = (*tpu, 'tpu-vm', 'ssh', node, zone, '--worker=0', f'--command={journal}')
  delete = (*tpu, 'queued-resources', 'delete', job.name, zone, '--force')
  state = (*tpu, 'queued-resources', 'describe', job.name, zone)
  return Rendered(
    files={FILE: _make_script(job)},
    commands=(_make_command(job),),
    follow_ups=(
      ('state', shlex.join(state)),
      ('log', shlex.join(ssh)),
      *jobs.list_boards(job),
      ('stop', shlex.join(delete)),
    ),
    notes=_list_notes(job),
    resume='stop it as above, then the same command, with the same workdir',
  )


def _make_command(job: Job) -> tuple[str, ...]:
  several = (f'--node-count={job.nodes}', f'--node-prefix={job.name}')
  return (
    *('gcloud', 'compute', 'tpus', 'queued-resources', 'create', job.name),
    *(several if job.nodes > 1 else (f'--node-id={job.name}',)),
    f'--zone={job.zone}',
    f'--accelerator-type={job.topology.accelerator_type}',
    f'--runtime-version={job.topology.runtime_version}',
    *(('--spot',) if job.spot else ()),
    # What docker pull, mounts and secrets ask of Google is asked in the VM's name.
    '--scopes=https://www.googleapis.com/auth/cloud-platform',
    f'--metadata-from-file=startup-script={FILE}',
  )


def _make_script(job: Job) -> str:
  sources = [mount.source for mount in job.mounts]
  return (
    _BEGIN
    + (_GCSFUSE if any(s.startswith('gs://') for s in sources) else '')
    + (_NFS if any(not s.startswith('gs://') for s in sources) else '')
    + '\n'
    + ''.join(map(_make_mount, job.mounts))
    + ''.join(map(_make_secret, job.secrets))
    + _make_pull(job.image)
    + f'restarts={job.restarts}\n'
    + make_array('command', _list_words(job))
    + _END
  )


def _list_words(job: Job) -> list[str]:
  """docker's. MOVINET_CLUSTER lets JAX ask the machine who the other hosts are."""
  env = [f'--env={key}={value}' for key, value in job.env]
  several = job.topology.hosts > 1
  return [
    *('docker', 'run', '--name=movinet', '--rm', '--privileged'),
    *('--net=host', '--ipc=host', f'--stop-timeout={jobs.SAVE_SECS}'),
    *(f'--volume={mount.folder}:{mount.folder}' for mount in job.mounts),
    *(('--env=MOVINET_CLUSTER=auto',) if several else ()),
    *env,
    *(f'--env={name}' for name in job.secrets),  # the value is the environment's
    *(job.image, *job.words),
  ]


def _make_mount(mount: Mount) -> str:
  folder = shlex.quote(mount.folder)
  if mount.source.startswith('gs://'):
    bucket, _, inside = mount.source.removeprefix('gs://').partition('/')
    only = [f'--only-dir={inside}'] if inside else []
    words = ['gcsfuse', '--implicit-dirs', *only, bucket, mount.folder]
  else:
    words = ['mount', '-t', 'nfs', mount.source, mount.folder]
  return f'mkdir -p {folder}\nmountpoint -q {folder} || insist {shlex.join(words)}\n'


def _make_secret(name: str) -> str:
  words = ['gcloud', 'secrets', 'versions', 'access', 'latest', f'--secret={name}']
  return f'{name}=$(insist {shlex.join(words)}) || exit $?\nexport {name}\n'


def _make_pull(image: str) -> str:
  host = image.partition('/')[0]
  login = ''
  if host.endswith(('-docker.pkg.dev', 'gcr.io')):
    login = shlex.join(['gcloud', 'auth', 'configure-docker', '--quiet', host]) + '\n'
  return f'{login}insist {shlex.join(["docker", "pull", image])}\n'


def _check(job: Job):
  if not job.topology:
    raise ValueError('tpu-vm needs --topology=v5e:16x16')
  if not job.zone:
    raise ValueError(
      'tpu-vm needs --zone=ZONE, one that has such chips: gcloud compute tpus '
      'accelerator-types list --zone=ZONE'
    )
  if len(job.name) > 60:
    raise ValueError(f'name {job.name!r} is too long for a Cloud TPU; wanted 60 at most')
  check_image(job, 'tpu-vm')
  check_mounts(job, 'tpu-vm', (BUCKET, EXPORT))


def _list_notes(job: Job) -> tuple[str, ...]:
  notes = [
    'the slice is paid for until you stop it, also after the run is done',
  ]
  if job.spot:
    notes.append('a spot slice that was taken away is not made again: stop it, repeat this')
  if job.secrets:
    notes.append(
      f'secrets come from Secret Manager: gcloud secrets create {job.secrets[0]} --data-file=-'
    )
  return tuple(notes)
