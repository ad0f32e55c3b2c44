"""Manifests against the published schemas, and against themselves."""

import copy
import dataclasses
import json
import pathlib
import re

import pytest
import yaml

from launch.errors import ExitCode
from launch.pods import job, manifest
from launch.pods.targets import gke
from launch.pods.topology import find_topology
from tests.launch.pods.jobs import HOSTILE, JOBS, make_train

jsonschema = pytest.importorskip('jsonschema', reason='jsonschema is not installed')

SCHEMAS = pathlib.Path(__file__).parent / 'schemas' / 'manifests.json'
ROOTS = {'JobSet': 'jobset.v1alpha2.JobSet', 'Job': 'io.k8s.api.batch.v1.Job'}
VARIANTS = {
  **JOBS['gke'],
  'one-host': make_train(
    '/data/a',
    topology=find_topology('v6e:2x2'),
    mounts=JOBS['gke']['train'].mounts,
    image='i',
  ),
  'one-node': dataclasses.replace(JOBS['gke']['gpus'], nodes=1),
}


@pytest.fixture(scope='module')
def definitions():
  return json.loads(SCHEMAS.read_text())


def read(known) -> dict:
  return yaml.safe_load(gke.render(known).files[gke.FILE])


def find_errors(found: dict, definitions) -> list[str]:
  root = {**definitions, '$ref': f'#/$defs/{ROOTS[found["kind"]]}'}
  validator = jsonschema.Draft202012Validator(root)
  return [error.message for error in validator.iter_errors(found)]


def find_job_spec(found: dict) -> dict:
  """The Job's, whether it is alone or in a JobSet."""
  if found['kind'] == 'Job':
    return found['spec']
  return found['spec']['replicatedJobs'][0]['template']['spec']


def find_pod(found: dict) -> dict:
  return find_job_spec(found)['template']['spec']


@pytest.mark.parametrize('name', VARIANTS)
def test_valid_by_the_schemas(name, definitions):
  assert find_errors(read(VARIANTS[name]), definitions) == []


def _misspell(found):
  spec = find_job_spec(found)
  spec['backOffLimit'] = 0


def _forget_status(found):
  rules = find_job_spec(found)['podFailurePolicy']['rules']
  del rules[-1]['onPodConditions'][0]['status']


def _wrong_action(found):
  found['spec']['failurePolicy']['rules'][0]['action'] = 'FailJob'


def _wrong_mode(found):
  find_job_spec(found)['completionMode'] = 'indexed'


def _wrong_operator(found):
  rules = find_job_spec(found)['podFailurePolicy']['rules']
  rules[0]['onExitCodes']['operator'] = 'in'


def _text_for_number(found):
  find_job_spec(found)['completions'] = '64'


def _number_for_text(found):
  find_pod(found)['containers'][0]['args'].append(3)


def _number_in_selector(found):
  find_pod(found)['nodeSelector']['cloud.google.com/gke-spot'] = True


def _no_name(found):
  del find_pod(found)['containers'][0]['name']


def _wrong_version(found):
  found['apiVersion'] = 'jobset.x-k8s.io/v1alpha1'


def _wrong_reason(found):
  found['spec']['failurePolicy']['rules'][0]['onJobFailureReasons'] = ['PodFailure']


def _misplaced(found):
  found['spec']['maxRestarts'] = 3


@pytest.mark.parametrize(
  'plant',
  [
    *(_misspell, _forget_status, _wrong_action, _wrong_mode, _wrong_operator),
    *(_text_for_number, _number_for_text, _number_in_selector, _no_name),
    *(_wrong_version, _wrong_reason, _misplaced),
  ],
)
def test_planted_errors_are_found(plant, definitions):
  good = read(JOBS['gke']['train'])
  bad = copy.deepcopy(good)
  plant(bad)
  assert find_errors(good, definitions) == []
  assert find_errors(bad, definitions)


@pytest.mark.parametrize('name', VARIANTS)
def test_restarts_are_for_what_a_restart_can_mend(name):
  """The rules as the controllers read them: the first that matches decides."""
  found = read(VARIANTS[name])
  assert _decide(found, code=75, disrupted=False) == 'restart'
  assert _decide(found, code=137, disrupted=False) == 'restart'
  assert _decide(found, code=143, disrupted=True) == 'restart for free'
  assert _decide(found, code=75, disrupted=True) == 'restart for free'
  for code in (2, 65, 69, 70, 74, 1, 127):
    assert _decide(found, code=code, disrupted=False) == 'fail'
    assert _decide(found, code=code, disrupted=True) == 'fail'


def _decide(found, *, code: int, disrupted: bool) -> str:
  """What becomes of a job whose pod ended so."""
  spec = find_job_spec(found)
  index, rule = next(
    (
      (index, rule)
      for index, rule in enumerate(spec['podFailurePolicy']['rules'])
      if _matches(rule, code, disrupted)
    ),
    (None, {'action': 'Count'}),
  )
  if found['kind'] == 'Job':
    count = 'restart' if spec['backoffLimitPerIndex'] else 'fail'
    return {'FailJob': 'fail', 'Ignore': 'restart for free', 'Count': count}[rule['action']]
  assert spec['backoffLimit'] == 0
  reason, message = (
    'BackoffLimitExceeded',
    'Job has reached the specified backoff limit',
  )
  if rule['action'] == 'FailJob':
    reason = 'PodFailurePolicy'
    message = f'… for pod a/b … matching FailJob rule at index {index}'
  for rule in found['spec']['failurePolicy']['rules']:
    patterns = rule['onJobFailureMessagePatterns']
    if reason in rule['onJobFailureReasons'] and any(
      re.search(pattern, message) for pattern in patterns
    ):
      return {
        'FailJobSet': 'fail',
        'RestartJobSetAndIgnoreMaxRestarts': 'restart for free',
      }[rule['action']]
  return 'restart' if found['spec']['failurePolicy']['maxRestarts'] else 'fail'


def _matches(rule, code, disrupted):
  if 'onExitCodes' in rule:
    codes = rule['onExitCodes']
    assert codes['operator'] == 'In'
    return code in codes['values']
  return disrupted and rule['onPodConditions'] == [{'type': 'DisruptionTarget', 'status': 'True'}]


@pytest.mark.parametrize('name', VARIANTS)
def test_parts_agree_with_each_other(name):
  found, known = read(VARIANTS[name]), VARIANTS[name]
  spec, pod = find_job_spec(found), find_pod(found)
  (container,) = pod['containers']
  assert spec['completions'] == spec['parallelism'] == known.hosts
  assert {m['name'] for m in container['volumeMounts']} == {v['name'] for v in pod['volumes']}
  for rule in spec['podFailurePolicy']['rules']:
    if 'onExitCodes' in rule:
      assert rule['onExitCodes']['containerName'] == container['name']
      assert ExitCode.RETRY not in rule['onExitCodes']['values']
      assert 0 not in rule['onExitCodes']['values']  # Kubernetes refuses it
  labels = spec['template']['metadata']['labels']
  commands = dict(gke.render(known).follow_ups)
  (selector,) = re.findall(r'--selector=(\S+)', commands['state'])
  assert selector in [f'{key}={value}' for key, value in labels.items()]
  kind = found['kind'].lower()
  assert commands['stop'] == f'kubectl delete {kind} {found["metadata"]["name"]}'
  assert pod['terminationGracePeriodSeconds'] == job.SAVE_SECS
  assert pod['restartPolicy'] == 'Never'


def test_processes_of_nodes_find_the_first():
  found = read(JOBS['gke']['gpus'])
  group = found['spec']['replicatedJobs'][0]['name']
  name, network = found['metadata']['name'], found['spec']['network']
  env = {each['name']: each for each in find_pod(found)['containers'][0]['env']}
  # https://jobset.sigs.k8s.io: <jobset>-<replicated job>-<job>-<pod>.<subdomain>
  first = f'{name}-{group}-0-0.{network["subdomain"]}'
  assert network['enableDNSHostnames'] is True
  assert env['MOVINET_COORDINATOR']['value'].rpartition(':')[0] == first
  assert env['MOVINET_PROCESSES']['value'] == '4'
  assert 'job-completion-index' in str(env['MOVINET_PROCESS']['valueFrom']['fieldRef'])
  log = dict(gke.render(JOBS['gke']['gpus']).follow_ups)['log']
  assert f'instance={name},batch.kubernetes.io/job-completion-index=0 ' in log


@pytest.mark.parametrize('name', ['train', 'sweep', 'one-host', 'one-node'])
def test_other_processes_are_told_nothing(name):
  env = find_pod(read(VARIANTS[name]))['containers'][0]['env']
  assert not [each for each in env if each['name'].startswith('MOVINET_')]


def test_only_slices_of_several_hosts_take_their_node_pool():
  assert 'annotations' in read(VARIANTS['train'])['metadata']
  for name in ('one-host', 'gpus', 'sweep'):
    assert 'annotations' not in read(VARIANTS[name])['metadata']


def test_hostile_words_arrive_as_they_are():
  known = JOBS['gke']['gpus']
  env = tuple((f'V{i}', word) for i, word in enumerate(HOSTILE))
  found = find_pod(read(dataclasses.replace(known, words=(*known.words, *HOSTILE), env=env)))
  (container,) = found['containers']
  assert [expand(word) for word in container['args']] == [*known.words, *HOSTILE]
  values = {each['name']: each.get('value') for each in container['env']}
  assert [expand(values[f'V{i}']) for i in range(len(HOSTILE))] == list(HOSTILE)


def expand(text: str) -> str:
  """As Kubernetes does with args and values: $$ is a dollar, $(NAME) a variable."""
  return re.sub(r'\$(\$|\((\w+)\))', lambda m: '$' if m[1] == '$' else 'EXPANDED', text)


def test_words_that_readers_differ_on_are_quoted():
  text = manifest.to_yaml({'args': list(HOSTILE)})
  for word in ('yes', 'null', '1e3', '0x10', '007', '1_000', 'y', '-', '~'):
    assert f'- "{word}"\n' in text


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'image': ''}, 'say --image='),
    ({'gpus': 0}, 'needs --topology=v5e:16x16'),
    ({'mounts': ()}, 'lies in no --mount'),
    ({'workdir': '/database/a2'}, 'lies in no --mount'),
    ({'mounts': (job.Mount('claim', '/run'),)}, "not the system's"),
    ({'mounts': (job.Mount('Cl aim', '/data'),)}, 'PersistentVolumeClaim'),
    ({'name': 'a' * 60}, 'shorter --name'),
  ],
)
def test_refused(changes, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    gke.render(dataclasses.replace(JOBS['gke']['gpus'], **changes))
