"""Small causal networks, and their answers as they are written."""

import dataclasses

import jax
import numpy as np
import pytest

from movinet_jax import models, timing

FRAMES, SIZE = 7, (12, 11)
# These small programs cost far more to compile than to run.
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
ALTERNATE = ('tsnet', 'ensemble')  # two streams, or two members, take frames by turns


# As the published streams have them, from A3 with positions; the small networks have others.
HARD = {'activation': 'hard_swish', 'gate': 'hard_sigmoid', 'head_activation': 'hard_swish'}


def find_causal():
  """The smallest causal networks of all families, with the family's name."""
  specs = [
    (family, name, spec)
    for family, module in models.families().items()
    for name, spec in module.SMALL.items()
    if getattr(spec, 'causal', False)
  ]
  small = models.find_family('movinet').SMALL['stream-2plus1d']
  for name, positions in {'stream-hard': False, 'stream-placed': True}.items():
    specs.append(('movinet', name, dataclasses.replace(small, **HARD, positions=positions)))
  return [
    pytest.param(models.create(family, 3, spec=spec), family, id=f'{family}-{name}')
    for family, name, spec in specs
  ]


def draw_frames():
  return np.random.default_rng(1).integers(0, 256, (FRAMES, 1, *SIZE, 3), np.uint8)


def make_stream(**options):
  spec = models.find_family('movinet').SMALL['stream-2plus1d']
  model = models.create('movinet', 3, spec=spec, **options)
  return model, timing.draw_weights(model)


def run_network(model, variables, frames):
  """Probabilities [T, N] of the network as it is written."""
  step = jax.jit(lambda x, state: model.apply(variables, x, state), compiler_options=QUICK)
  state, found = model.init_state(1, SIZE), []
  for frame in frames:
    logits, state = step(frame[None].astype(np.float32) / 255, state)
    found.append(jax.nn.softmax(logits[0]))
  return np.stack(found)


def run_step(step, frames):
  state, found = step.begin(), []
  for frame in frames:
    probabilities, state = step(frame[None], state)
    found.append(np.asarray(probabilities))
  return np.stack(found)
