"""Times of exported parts: they add up to networks, and tell the runtime that they are of."""

import contextlib
import dataclasses
import functools
import importlib.util

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax import export
from movinet_jax.export import formats
from nas import exported
from nas.runtime import Work
from nas.spaces import movinet

_ATTEMPTS = 4  # of a test of times
SPACE = {
  **{'stem': 16, 'widths': (48,), 'strides': (2,), 'depth': 2, 'project': 96},
  **{'kernels': ((5, 3, 3),), 'expansions': (1.0, 4.0), 'head': 128},
  **{'multipliers': (1.0,), 'stem_multipliers': (1.0,)},
  **{'frames': 12, 'resolution': 32, 'frame_stride': 1, 'activation': 'hard_swish'},
  **{'conv': '2plus1d', 'se_kind': '2plus3d', 'causal': True, 'gate': 'hard_sigmoid'},
}


@pytest.fixture(scope='module')
def bench():
  return movinet.make_space(**SPACE).make_bench(4)


def list_three(space):
  """Choices of a small, a middling and a large network."""
  small, large = space.decode(space.smallest('macs', 4)), space.decode(space.largest())
  (block,) = large.blocks
  middle = dataclasses.replace(large, blocks=(dataclasses.replace(block, layers=block.layers[:1]),))
  return [space.encode(spec) for spec in (small, middle, large)]


def retried(test):
  """Tries a test of times again: other work disturbs some attempts, and a bug disturbs all."""

  @functools.wraps(test)
  def run(*args, **kwargs):
    for _ in range(_ATTEMPTS - 1):
      with contextlib.suppress(AssertionError):
        return test(*args, **kwargs)
    return test(*args, **kwargs)

  return run


@pytest.mark.parametrize('name', ['litert', pytest.param('onnxruntime', marks=pytest.mark.slow)])
@retried
def test_sums_of_parts_put_networks_in_their_order(name, bench):
  space, clock = bench.space, exported.Runtime(name, 1)
  times = {str(part): clock.measure_part_ns(bench.make_part(part)) for part in space.list_parts()}
  table = space.make_cost_table('latency_ns', times=space.find_times(times))
  networks = list_three(space)
  summed = [int(table.count(choices)) for choices in networks]
  whole = [clock.measure_network_ns(bench.make_network(choices)) for choices in networks]
  assert sorted(whole) == whole
  assert sorted(summed) == summed
  for parts, network in zip(summed, whole, strict=True):
    assert 0.4 < network / parts < 2.5


@retried
def test_a_file_that_runs_a_part_twice_takes_twice_the_time(bench):
  clock = exported.Runtime('litert', 1)
  work = bench.make_part(bench.space.list_parts()[-2])
  once, form = clock.measure_part_ns(work), formats.load('tflite')
  write = form.write
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(form, 'write', lambda part, path: write(part.repeat(2), path))
    assert 1.4 < clock.measure_part_ns(work) / once < 3


@retried
def test_what_a_call_costs_is_taken_off():
  """A part that does nothing takes no time, though a call of it does."""
  clock = exported.Runtime('onnxruntime', 1)
  ready = clock.prepare(Work(exported.Empty(), (1, 1, 1, 1, 8)), exported.COPIES)
  call_ns, _ = ready.time_ns(rounds=5, round_secs=0.01)
  assert abs(ready.measure_ns() - 1) < 0.1 * call_ns


def test_times_tell_their_runtime_its_version_and_threads():
  one, two = exported.Runtime('litert', 1).about, exported.Runtime('litert', 2).about
  other = exported.Runtime('onnxruntime', 1).about
  package, version = one['runtime'].split()
  assert (package, other['runtime'].split()[0]) == ('ai-edge-litert', 'onnxruntime')
  assert version[0].isdigit()
  assert one != two
  assert one['threads'] == 1


@pytest.mark.parametrize(('name', 'kind'), exported.FORMATS.items())
def test_a_runtime_has_its_threads(name, kind, bench, monkeypatch):
  form, seen = formats.load(kind), []
  make = form.make_session
  monkeypatch.setattr(form, 'make_session', lambda *given: seen.append(given) or make(*given))
  exported.Runtime(name, 2).prepare(Work(exported.Empty(), (1, 1, 1, 1, 8)), 1)
  assert {threads for *_, threads in seen} == {2}


def test_a_runtime_that_is_not_installed_is_named(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name: None if name == 'onnxruntime' else find(name)
  )
  with pytest.raises(export.ExportError, match=r'onnxruntime.*movinet-jax\[export\]'):
    exported.Runtime('onnxruntime', 1)


class Sorting(nn.Module):
  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    return jnp.sort(x, -1), {}


def test_a_part_that_no_file_can_say_is_refused_by_name():
  with pytest.raises(export.ExportError, match='Sorting has the primitive sort'):
    exported.plan(Work(Sorting(), (1, 1, 2, 2, 8)))


def test_copies_of_any_part_have_weights_of_their_own(bench):
  """Or a converter would store them once, and caches hold them."""
  part = exported.plan(bench.make_part(bench.space.list_parts()[-1])).repeat(exported.COPIES)
  kernels = [
    np.asarray(node.inputs[1]).tobytes()
    for node, _ in part.program.graph.list_nodes()
    if node.op == 'conv'
  ]
  assert len(set(kernels)) == len(kernels) > exported.COPIES
