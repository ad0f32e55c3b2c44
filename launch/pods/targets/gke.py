"""Google Kubernetes Engine: a JobSet for one run, an Indexed Job for a trial study.

JobSet restarts all pods of a run when one of them is lost. Which failures are worth a
restart is said twice: the Job's podFailurePolicy looks at a pod, and fails the Job with
a message that names the rule; the JobSet's failurePolicy looks at that message. Needs
JobSet 0.10 or newer. On clusters elsewhere the GPU manifest works as well, given
JobSet.
"""

import re
import shlex

from launch.pods import job as jobs
from launch.pods.check import BUCKET, EXPORT, check_image, check_mounts
from launch.pods.job import Job, Mount, Rendered
from launch.pods.manifest import to_yaml

TOOL = 'kubectl'
TAKES = (
  *('topology', 'nodes', 'gpus', 'gpu_type', 'cores', 'image', 'mounts', 'queue'),
  'spot',
)
FILE = 'job.yaml'
SECRET = 'movinet'  # the Kubernetes Secret that holds all of a job's secrets
_PORT = 8476
_GROUP = 'w'  # of JobSet's replicated jobs, there is one; short, for pods have its name
_CONTAINER = 'movinet'


def render(job: Job) -> Rendered:
  """The manifest of a job, and how to look after it.

  Raises:
    ValueError: GKE cannot run it so.
  """
  _check(job)
  kind = 'job' if job.is_study else 'jobset'
  manifest = _make_study(job) if job.is_study else _make_jobset(job)
  return Rendered(
    files={FILE: to_yaml(manifest)},
    commands=(('kubectl', 'create', f'--filename={FILE}'),),
    follow_ups=_list_follow_ups(job, kind),
    notes=_list_notes(job),
    resume='stop it as above, then the same command, with the same workdir',
  )


def _make_jobset(job: Job) -> dict:
  """All hosts as one run: https://jobset.sigs.k8s.io, v1alpha2."""
  annotations = {}
  if job.topology and job.hosts > 1:
    # No other job's pods in the node pool that is this slice.
    annotations = {'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'}
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': _make_metadata(job, annotations),
    'spec': {
      # A headless service: pods find each other by name before they are ready.
      'network': {'enableDNSHostnames': True, 'subdomain': job.name},
      'failurePolicy': {
        'maxRestarts': job.restarts,
        'rules': [
          _make_rule('permanent', 'FailJobSet', 0),
          _make_rule('disruption', 'RestartJobSetAndIgnoreMaxRestarts', 1),
          # Whatever is left restarts all, and counts.
        ],
      },
      'replicatedJobs': [
        {
          'name': _GROUP,
          'replicas': 1,
          'template': {
            'spec': {
              **_make_job_spec(job),
              'backoffLimit': 0,
              'podFailurePolicy': {
                'rules': [
                  _make_permanent(),
                  {'action': 'FailJob', 'onPodConditions': [_DISRUPTED]},
                ]
              },
            }
          },
        }
      ],
    },
  }


def _make_study(job: Job) -> dict:
  """Coordinators that share a database, each of them restarted by itself."""
  return {
    'apiVersion': 'batch/v1',
    'kind': 'Job',
    'metadata': _make_metadata(job, {}),
    'spec': {
      **_make_job_spec(job),
      'backoffLimitPerIndex': job.restarts,
      'podFailurePolicy': {
        'rules': [
          _make_permanent(),
          {'action': 'Ignore', 'onPodConditions': [_DISRUPTED]},
        ]
      },
    },
  }


# Preempted, evicted, or its node is going. `status` must be said, though there is only
# one that makes sense.
_DISRUPTED = {'type': 'DisruptionTarget', 'status': 'True'}


def _make_permanent() -> dict:
  codes = {'containerName': _CONTAINER, 'operator': 'In'}
  return {
    'action': 'FailJob',
    'onExitCodes': {**codes, 'values': list(jobs.PERMANENT)},
  }


def _make_rule(name: str, action: str, index: int) -> dict:
  return {
    'name': name,
    'action': action,
    'onJobFailureReasons': ['PodFailurePolicy'],
    'onJobFailureMessagePatterns': [f'matching FailJob rule at index {index}$'],
  }


def _make_metadata(job: Job, annotations: dict) -> dict:
  labels = {'app.kubernetes.io/name': 'movinet', 'app.kubernetes.io/instance': job.name}
  if job.queue:
    labels['kueue.x-k8s.io/queue-name'] = job.queue
  metadata = {'name': job.name, 'labels': labels}
  return {**metadata, 'annotations': annotations} if annotations else metadata


def _make_job_spec(job: Job) -> dict:
  annotations = {}
  if any(mount.source.startswith('gs://') for mount in job.mounts):
    annotations = {'gke-gcsfuse/volumes': 'true'}
  labels = {'app.kubernetes.io/instance': job.name}
  metadata = {'labels': labels}
  return {
    'completionMode': 'Indexed',
    'completions': job.hosts,
    'parallelism': job.hosts,
    'template': {
      'metadata': {**metadata, **({'annotations': annotations} if annotations else {})},
      'spec': _make_pod(job),
    },
  }


def _make_pod(job: Job) -> dict:
  selector = dict(job.topology.gke_labels) if job.topology else {}
  if job.gpu_type:
    selector['cloud.google.com/gke-accelerator'] = job.gpu_type
  pod = {
    'restartPolicy': 'Never',  # podFailurePolicy asks for it
    'terminationGracePeriodSeconds': jobs.SAVE_SECS,
  }
  if job.spot:
    selector['cloud.google.com/gke-spot'] = 'true'
    taint = {'key': 'cloud.google.com/gke-spot', 'operator': 'Equal', 'value': 'true'}
    pod['tolerations'] = [{**taint, 'effect': 'NoSchedule'}]
  if selector:
    pod['nodeSelector'] = selector
  volumes = [_make_volume(i, mount) for i, mount in enumerate(job.mounts)]
  # Data workers hand batches over in shared memory, of which pods get 64 MB.
  volumes.append({'name': 'shm', 'emptyDir': {'medium': 'Memory'}})
  return {**pod, 'containers': [_make_container(job)], 'volumes': volumes}


def _make_container(job: Job) -> dict:
  mounts = [{'name': f'm{i}', 'mountPath': m.folder} for i, m in enumerate(job.mounts)]
  return {
    'name': _CONTAINER,
    'image': job.image,
    # Dollars are Kubernetes' own here: $(NAME) would be replaced.
    'args': [word.replace('$', '$$') for word in job.words],
    'env': _make_env(job),
    'resources': _make_resources(job),
    'volumeMounts': [*mounts, {'name': 'shm', 'mountPath': '/dev/shm'}],
  }


def _make_env(job: Job) -> list[dict]:
  env = [{'name': key, 'value': value.replace('$', '$$')} for key, value in job.env]
  for name in job.secrets:
    reference = {'name': SECRET, 'key': name}
    env.append({'name': name, 'valueFrom': {'secretKeyRef': reference}})
  # A slice's hosts are found by JAX, from what GKE tells its pods.
  if not job.topology and not job.is_study and job.hosts > 1:
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    first = f'{job.name}-{_GROUP}-0-0.{job.name}:{_PORT}'
    env += [
      {'name': 'MOVINET_COORDINATOR', 'value': first},
      {'name': 'MOVINET_PROCESSES', 'value': str(job.hosts)},
      {'name': 'MOVINET_PROCESS', 'valueFrom': {'fieldRef': {'fieldPath': index}}},
    ]
  return env


def _make_resources(job: Job) -> dict:
  if job.topology:  # A host is one pod's: its cores need no asking.
    return {'limits': {'google.com/tpu': job.topology.chips_per_host}}
  return {
    'requests': {'cpu': job.cores},
    'limits': {'nvidia.com/gpu': job.gpus},
  }


def _make_volume(i: int, mount: Mount) -> dict:
  volume = {'name': f'm{i}'}
  if mount.source.startswith('gs://'):
    bucket, _, folder = mount.source.removeprefix('gs://').partition('/')
    options = 'implicit-dirs' + (f',only-dir={folder}' if folder else '')
    attributes = {'bucketName': bucket, 'mountOptions': options}
    driver = {'driver': 'gcsfuse.csi.storage.gke.io', 'volumeAttributes': attributes}
    return {**volume, 'csi': driver}
  host, colon, path = mount.source.partition(':')
  if colon:
    return {**volume, 'nfs': {'server': host, 'path': path}}
  return {**volume, 'persistentVolumeClaim': {'claimName': mount.source}}


def _check(job: Job):
  if not job.topology and not job.gpus:
    raise ValueError('gke needs --topology=v5e:16x16 for TPUs, or --gpus=8 of each node')
  check_image(job, 'gke')
  check_mounts(job, 'gke', (BUCKET, EXPORT, r'[a-z0-9]([a-z0-9.-]*[a-z0-9])?'))
  if job.queue and not re.fullmatch(r'[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?', job.queue):
    raise ValueError(
      f'queue {job.queue!r}: wanted the name of a Kueue queue, of a-z, digits, - and .'
    )
  longest = f'{job.name}-{_GROUP}-0-{job.hosts - 1}-xxxxx'  # as Kubernetes names a pod
  if len(longest) > 63:
    raise ValueError(
      f'name {job.name!r} is too long: its pods would be called {longest}, and 63 '
      'characters are allowed; say a shorter --name'
    )


def _list_follow_ups(job: Job, kind: str) -> tuple[tuple[str, str], ...]:
  pods = f'--selector=app.kubernetes.io/instance={job.name}'
  # Only the first process says how the run goes.
  first = f'{pods},batch.kubernetes.io/job-completion-index=0'
  log = ['kubectl', 'logs', '--follow', '--tail=-1', first, f'--container={_CONTAINER}']
  ups = [
    ('state', shlex.join(['kubectl', 'get', f'{kind},pods', pods])),
    ('log', shlex.join(log)),
    ('stop', shlex.join(['kubectl', 'delete', kind, job.name])),
  ]
  return (*ups, *jobs.list_boards(job))


def _list_notes(job: Job) -> tuple[str, ...]:
  notes = []
  if job.secrets:
    notes.append(
      f'{", ".join(job.secrets)}: read from the Kubernetes Secret {SECRET!r}: kubectl '
      f'create secret generic {SECRET} --from-env-file=FILE, of lines NAME=VALUE'
    )
  if job.topology and re.fullmatch(r'(v5e|v6e):2x4', job.topology.name):
    notes.append(f'{job.topology.name} is a node pool of 8-chip machines (…-8t)')
  if job.spot:
    notes.append('GKE gives pods on spot nodes 25 seconds to save, not more')
  return tuple(notes)
