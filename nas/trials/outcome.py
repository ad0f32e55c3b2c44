"""What became of a trial, as JSON: what its worker says and its study keeps."""

import json
import math
from collections.abc import Mapping

import numpy as np

from nas.history import State

FIELDS = ('state', 'value', 'metrics', 'reason', 'curve')
_VALUED = (State.DONE, State.PRUNED)


class Refused(ValueError):
  """What a trial found in its folder is another trial's: a person must mend that, none fails."""


def make_outcome(result) -> dict:
  """What an objective returned, as all of FIELDS.

  A value, metric or point of the curve that is no finite number makes it a failure: such a
  network was not trained. A metric may be None.

  Args:
    result: mapping of FIELDS, of which only `state` is always needed, and `value` where the
      state is 'done' or 'pruned'; numbers may be NumPy's.
  """
  try:
    return _check(result)
  except ValueError as error:
    return make_failure(str(error))


def make_failure(reason: str) -> dict:
  return {
    'state': State.FAILED.value,
    'value': None,
    'metrics': {},
    'reason': reason,
    'curve': {},
  }


def _check(result) -> dict:
  if not isinstance(result, Mapping):
    raise ValueError(f'the objective returned {result!r}, wanted a mapping of {FIELDS}')
  if strange := sorted(set(result) - set(FIELDS)):
    raise ValueError(f'the objective returned {strange[0]!r}, wanted some of {FIELDS}')
  states = [state.value for state in State if state is not State.RUNNING]
  if result.get('state') not in states:
    raise ValueError(
      f'the objective returned the state {result.get("state")!r}, wanted one of {states}'
    )
  state = State(result['state'])
  value = None
  if state in _VALUED:
    value = _check_number('the value', result.get('value'))
  curve = {
    str(int(step)): _check_number(f'the value at step {step}', reached)
    for step, reached in (result.get('curve') or {}).items()
  }
  return {
    'state': state.value,
    'value': value,
    'metrics': _check_metrics(result.get('metrics') or {}),
    'reason': str(result.get('reason') or ''),
    'curve': curve,
  }


def _check_number(name: str, value) -> float:
  number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
  if not number or not math.isfinite(value):
    raise ValueError(f'{name} is {value!r}, wanted a finite number')
  return float(value)


def _check_metrics(metrics: Mapping) -> dict:
  for name, value in metrics.items():
    if isinstance(value, (float, np.floating)):
      _check_number(f'the metric {name!r}', value)
  try:
    return json.loads(json.dumps(dict(metrics), default=_to_plain, allow_nan=False))
  except (TypeError, ValueError) as error:
    raise ValueError(f'the metrics are no JSON: {error}') from error


def _to_plain(value):
  if isinstance(value, (np.generic, np.ndarray)):
    return value.tolist()
  raise TypeError(f'{value!r} is no JSON')
