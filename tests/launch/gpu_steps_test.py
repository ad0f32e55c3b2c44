"""Training steps of every family, compiled for a GPU that is not here."""

import importlib.util

import pytest

from launch.config import load_config
from launch.pods.preflight.apart import Step, compile_apart
from movinet_jax import models
from movinet_jax.spec import to_json

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    importlib.util.find_spec('jax_cuda13_plugin') is None,
    reason="jax_cuda13_plugin is not installed: pip install 'jax[cuda13]' (Linux)",
  ),
]
# The members of an ensemble are trained apart: its steps are those of other families.
FAMILIES = [name for name in models.families() if name != 'ensemble']


def make_step(family: str, dtype: str) -> Step:
  config = load_config('configs/movinet/quickstart.py').to_dict()
  spec = next(iter(models.find_family(family).SMALL.values()))
  config['model'] = {'name': family, 'spec': to_json(spec), 'dtype': dtype}
  config['clip']['train'] |= {'frames': 8, 'size': 32}
  return Step('train', config, 4, 'h100:1', 1)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('family', FAMILIES)
def test_a_training_step_compiles_for_a_gpu(family, dtype):
  found = compile_apart(make_step(family, dtype), 16)
  assert not found.failure
  assert found.memory.temporaries > 0
