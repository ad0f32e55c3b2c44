"""What devices exchange, read from steps compiled for TPU slices that are not here."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from launch import config
from launch.pods.preflight import program
from launch.pods.preflight.machine import find_devices
from launch.pods.topology import find_topology
from launch.runs import search, training
from movinet_jax import cost
from movinet_jax.train import mesh

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="libtpu is not installed: pip install 'jax[tpu]' (Linux on x86-64)",
  ),
]
SMALL, LARGE = 'v5e:4x4', 'v5e:16x16'
PER_CHIP, CLIP = 4, (8, 32)
CLIP_BYTES = 8 * 32 * 32 * 3


def make_training(devices: int, time: int = 1, space: int = 1, **options) -> dict:
  """A network whose kernels, 70 KB, are far more than its batch statistics."""
  layer = {'kernel': (3, 3, 3), 'expand': 16}
  cfg = config.load_config('configs/movinet/quickstart.py').to_dict()
  spec = {'stem': 8, 'project': 32, 'head': 512, 'frames': CLIP[0]}
  spec['blocks'] = ({'features': 8, 'stride': 2, 'layers': (layer,)},)
  cfg['model']['spec'] |= spec
  cfg['clip']['train'] |= {'frames': CLIP[0], 'size': CLIP[1]}
  cfg['train'] |= options
  cfg['mesh'] = {'time': time, 'space': space}
  clips = PER_CHIP * devices // (time * space)
  return {**cfg, 'batch_size': clips}


def make_search(devices: int) -> dict:
  cfg = config.load_config('configs/search/quickstart.py').to_dict()
  cfg['space'] |= {'stem': 8, 'widths': (8,), 'strides': (2,), 'depth': 1}
  cfg['space'] |= {'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0)}
  cfg['space'] |= {'project': 16, 'head': 512, 'multipliers': (1.0,)}
  cfg['space'] |= {'stem_multipliers': (1.0,)}
  cfg['clip'] |= {'frames': CLIP[0], 'size': CLIP[1]}
  cfg['search']['target'] = 1.2e6
  sizes = {'batch_size': PER_CHIP * devices, 'policy_batch_size': devices}
  return {**cfg, 'candidates': devices, **sizes}


@functools.cache
def compile_step(verb: str, topology: str, **options):
  """(program, its memory, what its devices exchange)."""
  devices = find_devices(find_topology(topology))
  make = {'train': make_training, 'search': make_search}[verb]
  resolve = {'train': training.resolve, 'search': search.resolve}[verb]
  run = resolve(make(len(devices), **options), num_classes=4, devices=devices)
  whole = program.make_program(run)
  compiled = whole.compile()
  found = cost.find_collectives(compiled.as_text())
  return whole, cost.count_memory(compiled), found


def count_bytes(tree) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def find_gathered(found):
  """Exchanges other than sums that are as large as a device's part of a clip."""
  return [one for one in found if one.kind != 'all-reduce' and one.bytes >= CLIP_BYTES]


def count_excess(found, params, turns: int = 1, channels: int = 0) -> int:
  """Bytes reduced above those of gradients, once, and of batch statistics, each turn."""
  # Two forward and two back, and computed again, of each.
  moments = 8 * 4 * channels * turns
  return sum(one.bytes * one.times for one in found) - count_bytes(params) - moments


@pytest.mark.parametrize('verb', ['train', 'search'])
def test_chips_do_not_cost_each_other(verb):
  options = {'accumulate': 2} if verb == 'train' else {}
  whole, few, here = compile_step(verb, SMALL, **options)
  _, many, there = compile_step(verb, LARGE, **options)
  # A search tells what every candidate was and got: their number grows with the chips.
  told = 64 * (256 - 16) if verb == 'search' else 0
  for name in ('arguments', 'outputs', 'temporaries'):
    assert getattr(many, name) <= 1.02 * getattr(few, name) + told, name
  small, large = (cost.count_collective_bytes(found) for found in (here, there))
  assert small.keys() == large.keys() == {'all-reduce'}
  assert large['all-reduce'] <= small['all-reduce'] + told
  assert not find_gathered(here + there)
  assert not any(one.in_branch for one in here + there)
  # A chip has its own clips only: padded weights and they are less than the whole batch.
  assert few.arguments < count_bytes(whole.batch)


@pytest.mark.parametrize(
  'options',
  [
    {'accumulate': 2},
    {'subclips': 2, 'boundary': 'truncated'},
    {'subclips': 2, 'boundary': 'exact'},
  ],
  ids=lambda options: '-'.join(map(str, options.values())),
)
def test_gradients_are_reduced_once_a_step(options):
  whole, _, found = compile_step('train', SMALL, **options)
  params, stats = whole.state.params, whole.state.batch_stats
  channels = sum(x.size for x in jax.tree.leaves(stats)) // 2
  assert any(one.loops for one in found)  # statistics of each micro-batch or sub-clip
  assert count_excess(found, params, turns=2, channels=channels) < 0
  assert count_excess(found, params, turns=0) > -512  # they are reduced
  assert not find_gathered(found)


@pytest.mark.parametrize('axis', ['time', 'space'])
def test_clips_that_are_cut_exchange_only_their_edges(axis):
  _, _, found = compile_step('train', SMALL, **{axis: 2})
  assert any(one.kind == 'collective-permute' for one in found)
  assert not find_gathered(found)


def test_a_search_reduces_gradients_once_a_step():
  whole, _, found = compile_step('search', SMALL)
  assert abs(count_excess(found, whole.state.params)) < 4096


def place_toy():
  place = mesh.make_mesh(find_devices(find_topology(SMALL)))
  split = NamedSharding(place, PartitionSpec(None, 'data'))
  w = jax.ShapeDtypeStruct((64, 64), np.float32, sharding=mesh.replicated(place))
  x = jax.ShapeDtypeStruct((5, 128, 64), np.float32, sharding=split)
  return place, w, x


def find(function, *arguments):
  compiled = program.compile_for_others(jax.jit(function).lower(*arguments))
  return cost.find_collectives(compiled.as_text())


def test_planted_reductions_in_a_loop_are_found():
  """As `weight` in train/steps.py would be, were it a factor of the gradients."""

  def learn(scale, w, x):
    def body(total, part):
      index, clips = part
      grads = jax.grad(lambda w: jnp.mean(jnp.tanh(clips @ w) ** 2))(w)
      return total + (grads * jnp.sin(index) if scale else grads), None

    return jax.lax.scan(body, jnp.zeros_like(w), (jnp.arange(5.0), x))[0]

  excess = []
  for scale in (False, True):
    _, w, x = place_toy()
    found = find(functools.partial(learn, scale), w, x)
    excess.append(count_excess(found, w))
  assert excess == [0, 4 * count_bytes(place_toy()[1])]


def test_a_planted_gather_of_the_batch_is_found():
  place, w, x = place_toy()

  def gather(w, x):
    return jax.lax.with_sharding_constraint(x, mesh.replicated(place)) @ w

  assert [one.kind for one in find_gathered(find(gather, w, x))] == ['all-gather']
