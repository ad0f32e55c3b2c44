"""Writes manifests.json, beside this file, from the published schemas.

  pip install kubeflow_trainer_api==2.3.0 kubernetes-validate==1.37.0
  python tests/launch/pods/schemas/make.py

Descriptions are left out, unknown keys are refused, nothing may be null, and what the
descriptions say about possible values becomes an enum.
"""

import json
import re
from importlib import resources
from pathlib import Path

# The newest for which a condition's `status` is required, as it is by older clusters.
KUBERNETES = 'v1.33.0-local-strict'
ROOTS = ('io.k8s.api.batch.v1.Job', 'jobset.v1alpha2.JobSet')
# JobSet's descriptions say these in words of their own.
ENUMS = {
  ('FailurePolicyRule', 'action'): (
    *('FailJobSet', 'RestartJobSet', 'RestartJobSetAndIgnoreMaxRestarts'),
    *('RestartJob', 'RestartJobAndIgnoreMaxRestarts'),
  ),
  ('FailurePolicy', 'restartStrategy'): (
    'Recreate',
    'BlockingRecreate',
    'InPlaceRestart',
  ),
  ('SuccessPolicy', 'operator'): ('All', 'Any'),
  ('StartupPolicy', 'startupPolicyOrder'): ('AnyOrder', 'InOrder'),
  ('DependsOn', 'status'): ('Ready', 'Complete'),
  ('JobSet', 'apiVersion'): ('jobset.x-k8s.io/v1alpha2',),
  ('JobSet', 'kind'): ('JobSet',),
}
REASONS = (
  *('BackoffLimitExceeded', 'DeadlineExceeded', 'FailedIndexes'),
  *('MaxFailedIndexesExceeded', 'PodFailurePolicy'),
)


def main():
  jobset, values = read_jobset()
  known = {**read_kubernetes(), **jobset}
  for (name, key), enum in values.items():
    if key in known.get(name, {}).get('properties', {}):
      known[name]['properties'][key]['enum'] = enum
  reached, waiting = {}, list(ROOTS)
  while waiting:
    name = waiting.pop()
    if name not in reached:
      reached[name] = known[name]
      waiting += re.findall(r'"#/\$defs/([^"]+)"', json.dumps(known[name]))
  for name in ROOTS:  # The API server writes it, nobody else.
    del reached[name]['properties']['status']
    reached[name]['required'] = ['apiVersion', 'kind', 'metadata', 'spec']
  text = json.dumps({'$defs': reached}, sort_keys=True, separators=(',', ':'))
  Path(__file__).with_name('manifests.json').write_text(text + '\n')


def read_kubernetes() -> dict:
  folder = resources.files('kubernetes_validate') / 'kubernetes-json-schema' / KUBERNETES
  found = json.loads((folder / '_definitions.json').read_text())['$defs']
  return {name: tighten(schema) for name, schema in found.items()}


def read_jobset() -> tuple[dict, dict]:
  """JobSet's definitions, and what its copy of Kubernetes' says about values.

  Those are by name and key, named as in Kubernetes' schema, which leaves them out.
  """
  from kubeflow_trainer_api import models

  found = models.JobsetV1alpha2JobSet.model_json_schema()
  parts = {**found.pop('$defs'), 'JobsetV1alpha2JobSet': found}
  mine, values = {}, {}
  for name, schema in parts.items():
    if not name.startswith('Jobset'):
      for key, value in schema.get('properties', {}).items():
        enum = re.findall(r' - `"(\w+)"`', value.get('description', ''))
        if enum:
          values[rename(name).removeprefix('#/$defs/'), key] = enum
      continue
    last = name.removeprefix('JobsetV1alpha2')
    schema = tighten(schema)
    for key, value in schema.get('properties', {}).items():
      if (last, key) in ENUMS:
        value['enum'] = list(ENUMS[last, key])
      if key == 'onJobFailureReasons':
        value['items']['enum'] = list(REASONS)
    mine[f'jobset.v1alpha2.{last}'] = schema
  return mine, values


def tighten(schema):
  if isinstance(schema, list):
    return [tighten(part) for part in schema]
  if not isinstance(schema, dict):
    return schema
  if 'anyOf' in schema and {'type': 'null'} in schema['anyOf']:
    (schema,) = [part for part in schema['anyOf'] if part != {'type': 'null'}]
  if 'oneOf' in schema:  # quantities: text or numbers
    return {'type': ['string', 'number']}
  kept = {}
  for key, value in schema.items():
    if key == 'properties':
      kept[key] = {name: tighten(part) for name, part in value.items()}
    elif key == '$ref':
      kept[key] = rename(value)
    elif key in ('type', 'enum', 'required'):
      kept[key] = without_null(value)
    elif key in ('items', 'additionalProperties'):
      kept[key] = tighten(value)
  if 'properties' in kept:
    kept['additionalProperties'] = False
  return kept


def rename(reference: str) -> str:
  """'IoK8sApiCoreV1Pod' -> 'io.k8s.api.core.v1.Pod', as Kubernetes' schema says it."""
  name = reference.rpartition('/')[2]
  if name.startswith('JobsetV1alpha2'):
    return f'#/$defs/jobset.v1alpha2.{name.removeprefix("JobsetV1alpha2")}'
  match = re.fullmatch(r'IoK8s(Api)(\w+?)(V1)(\w+)', name)
  if name.startswith('IoK8sApimachinery'):
    return f'#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.{name.partition("MetaV1")[2]}'
  if match:
    return f'#/$defs/io.k8s.api.{match[2].lower()}.v1.{match[4]}'
  return reference


def without_null(value):
  if isinstance(value, list):
    left = [part for part in value if part not in ('null', None)]
    return left[0] if len(left) == 1 and value != left else left
  return value


if __name__ == '__main__':
  main()
