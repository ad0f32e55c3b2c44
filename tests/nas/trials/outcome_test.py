import json
import math

import numpy as np
import pytest

from nas.trials.outcome import FIELDS, make_failure, make_outcome


def test_an_outcome_is_json_with_all_fields_and_exact_numbers():
  made = make_outcome(
    {
      'state': 'done',
      'value': np.float32(0.1),
      'metrics': {'macs': np.int64(3), 'rows': np.arange(2), 'latency_ns': None},
      'curve': {np.int32(10): np.float64(1 / 3)},
    }
  )
  assert tuple(made) == FIELDS
  assert json.loads(json.dumps(made)) == made
  assert made['value'] == float(np.float32(0.1))
  assert made['metrics'] == {'macs': 3, 'rows': [0, 1], 'latency_ns': None}
  assert made['curve'] == {'10': 1 / 3}


@pytest.mark.parametrize('state', ['discarded', 'failed'])
def test_a_network_that_was_not_trained_has_no_value(state):
  made = make_outcome({'state': state, 'value': 0.5, 'reason': 'macs'})
  assert (made['state'], made['value'], made['reason']) == (state, None, 'macs')


@pytest.mark.parametrize(
  ('result', 'reason'),
  [
    (None, 'None, wanted a mapping'),
    ({'state': 'done', 'value': 1.0, 'valeu': 2}, "'valeu'"),
    ({'value': 1.0}, 'state None'),
    ({'state': 'running'}, "state 'running'"),
    ({'state': 'done'}, 'value is None'),
    ({'state': 'done', 'value': True}, 'value is True'),
    ({'state': 'done', 'value': math.nan}, 'value is nan'),
    ({'state': 'pruned', 'value': math.inf}, 'value is inf'),
    ({'state': 'done', 'value': 1, 'metrics': {'top1': np.float32('nan')}}, "'top1'"),
    ({'state': 'done', 'value': 1, 'metrics': {'x': [math.nan]}}, 'no JSON'),
    ({'state': 'done', 'value': 1, 'metrics': {'x': object()}}, 'no JSON'),
    ({'state': 'done', 'value': 1, 'curve': {5: math.nan}}, 'at step 5'),
  ],
)
def test_what_is_no_outcome_is_a_failure_that_says_why(result, reason):
  made = make_outcome(result)
  assert made == make_failure(made['reason'])
  assert reason in made['reason']
