"""Latency is the sum of a network's parts, each of which can be run alone."""

import itertools

import jax
import numpy as np
import pytest

from movinet_jax.models.movinet import Layer
from nas import runtime
from nas.spaces import movinet

SMALL = {
  **{'stem': 8, 'widths': (8, 16), 'strides': (1, 2), 'depth': 2, 'project': 16},
  **{'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0), 'head': 8},
  **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0,), 'se': 'search'},
  **{'frames': 3, 'resolution': 24, 'frame_stride': 1},
}
STREAM = {'conv': '2plus1d', 'se_kind': '2plus3d', 'causal': True}


def list_own_parts(space, spec):
  """The parts of one network, read off its spec."""
  size = (12, 12)
  parts, before = [movinet.Part('stem', 3, spec.stem, size)], spec.stem
  for block in spec.blocks:
    for j, layer in enumerate(block.layers):
      stride = 1 if j else block.stride
      part = movinet.Part('layer', before, block.features, size, layer, stride)
      parts.append(part)
      size, before = tuple(-(-n // stride) for n in size), block.features
  return [*parts, movinet.Part('head', before, spec.project, size)]


@pytest.mark.parametrize('form', [{}, STREAM])
def test_latency_is_the_sum_of_the_parts(form):
  space, rng = movinet.make_space(**SMALL, **form), np.random.default_rng(0)
  parts = movinet.list_parts(space)
  assert len(set(map(str, parts))) == len(parts)
  known = {str(part): int(rng.integers(1, 10**9)) for part in parts}
  times = movinet.find_times(space, known)
  table = movinet.make_cost_table(space, 'latency_ns', times=times)
  used = set()
  for _ in range(300):
    choices = space.space.sample(rng)
    mine = list_own_parts(space, space.decode(choices))
    assert table.count(choices) == sum(times[part] for part in mine)
    used.update(mine)
  assert used == set(parts)  # nothing is measured that no network has


def test_parts_without_a_time_are_named():
  space = movinet.make_space(**SMALL)
  parts = movinet.list_parts(space)
  known = {str(part): 1 for part in parts[:-1]}
  with pytest.raises(ValueError, match=f'1 of the {len(parts)} parts .* such as .head 32'):
    movinet.find_times(space, known)
  with pytest.raises(ValueError, match='needs measured times'):
    movinet.make_cost_table(space, 'latency_ns')


def test_names_say_all_that_differs():
  layer = Layer((3, 5, 5), 72, False)
  part = movinet.Part('layer', 16, 24, (112, 96), layer, 2)
  assert str(part) == 'layer 16>24 3x5x5:72 /2 at 112x96'
  assert str(part._replace(layer=Layer((3, 5, 5), 72))) != str(part)
  assert str(movinet.Part('stem', 3, 16, (112, 96))) == 'stem 3>16 at 112x96'


@pytest.mark.parametrize(('form', 'frames'), [({}, 3), (STREAM, 1)])
def test_parts_and_networks_run_alone(form, frames):
  """A step gives what the next part reads, and carries the stream's state."""
  space = movinet.make_space(**SMALL, **form)
  bench = movinet.Bench(space, 5, batch=2, frames=frames)
  spec = space.decode(space.largest())
  shapes = []
  for part in list_own_parts(space, spec):
    step, carry = runtime.make_step(*bench.make_part(part))
    after = jax.eval_shape(step, carry)
    assert jax.tree.map(np.shape, after) == jax.tree.map(np.shape, carry)
    _, x, state, y = after
    shapes.append((x.shape, y.shape))
    temporal = part.kind == 'layer' and part.layer.kernel[0] > 1
    if form and (temporal or part.kind == 'head'):
      assert state
  for (_, given), (taken, _) in itertools.pairwise(shapes):
    assert given == taken
  step, carry = runtime.make_step(*bench.make_network(space.largest()))
  after = jax.jit(step)(carry)
  assert after[3].shape == (2, 5)
  assert bool(np.isfinite(after[3]).all())
  assert bool(after[2]) == bool(form)
