"""The one-shot search beside training one network: time, memory, compilation.

python benchmarks/search.py [SPACE] [PART …]       on this machine
python benchmarks/search.py [SPACE] tpu v5e:4x4    what the compiler says of the whole search
                                                   step on TPUs that are not here (pip
                                                   install libtpu)

SPACE  quick (the default), a2, tsnet-quick, tsnet
PART   gradients, whole, buffers; by default all
"""

import itertools
import json
import os
import sys
from typing import Any, NamedTuple

from launch.main import use_huge_pages

if __name__ == '__main__':
  use_huge_pages()  # as the command does, which starts anew: so before all else

import jax
import jax.numpy as jnp
import numpy as np
from timing import describe_machine

import movinet_jax as mj
from configs.search import movinet, quickstart, tsnet
from launch.pods.preflight.machine import find_devices
from launch.pods.topology import find_topology
from movinet_jax.cost import find_collectives
from movinet_jax.timing import compile_program, time_in_turns
from movinet_jax.train import losses, mesh, optimizers, steps
from movinet_jax.train.state import make_state
from nas import oneshot, spaces
from nas.objective import Objective

LOSS = losses.make_loss('softmax', label_smoothing=0.1)
OPTIMIZER = {'name': 'sgd', 'momentum': 0.9}


class Case(NamedTuple):
  """A search's config, and what a device gets of a batch: clips of (frames, size).

  Attributes:
    cpu_clips, clips: that a CPU gets, in float32, and an accelerator, in bfloat16.
  """

  config: Any
  classes: int
  cpu_clips: int
  clips: int
  shape: tuple[int, int]

  def here(self) -> tuple[int, Any]:
    """(clips, type) for the device that is here."""
    on_cpu = jax.default_backend() == 'cpu'
    return (self.cpu_clips, jnp.float32) if on_cpu else (self.clips, jnp.bfloat16)

  def supernet(self, dtype):
    """The supernet of the config's space; `.space` is that."""
    space = spaces.create(**{'name': 'movinet', **self.config.space.to_dict()})
    return oneshot.find_supernet(space)(space, self.classes, dtype=dtype)

  def largest(self, net):
    """The largest network of the supernet's space, alone."""
    spec = net.space.decode(net.space.largest())
    return mj.create(net.space.family, self.classes, spec=spec, dtype=net.dtype)

  def batch(self, clips: int):
    return make_batch(clips, *self.shape, self.classes)


CASES = {
  'quick': Case(quickstart.get_config(), 4, 8, 8, (12, 32)),
  'a2': Case(movinet.get_config('a2'), 600, 2, 2, (8, 112)),
  'tsnet-quick': Case(tsnet.get_config('quickstart'), 4, 8, 8, (32, 32)),
  'tsnet': Case(tsnet.get_config(), 100, 1, 16, (32, 160)),
}


def make_batch(count, frames, size, classes) -> dict:
  keys = jax.random.split(jax.random.key(0))
  return {
    'video': jax.random.uniform(keys[0], (count, frames, size, size, 3)),
    'label': jax.random.randint(keys[1], (count,), 0, classes),
    'mask': jnp.ones(count),
  }


def gradients(case: Case) -> dict:
  """Gradients of the supernet on the largest network against those of it alone."""
  clips, dtype = case.here()
  net, batch = case.supernet(dtype), case.batch(clips)
  params, space = net.init(jax.random.key(0)), net.space
  largest, average = jnp.asarray(space.largest()), jnp.asarray(_find_average(net))

  def shared(params, choices, batch):
    forward = oneshot.make_forward(net, choices)
    return steps.make_gradients(forward, LOSS)(params, {}, batch, None)[0]

  model = case.largest(net)
  variables = jax.jit(lambda params: net.extract(params, space.largest()))(params)

  def alone(variables, batch):
    def objective(params):
      state = {**variables, 'params': params}
      (logits, _), _ = model.apply(state, batch['video'], train=True, mutable=['batch_stats'])
      return LOSS(logits, batch['label'], batch['mask'])

    return jax.grad(objective)(variables['params'])

  one, one_secs = compile_program(alone, variables, batch)
  many, many_secs = compile_program(shared, params, largest, batch)
  calls = {
    'alone': lambda: one(variables, batch),
    'shared': lambda: many(params, largest, batch),
    'shared_on_average_network': lambda: many(params, average, batch),
  }
  return _compare(case, calls, {'alone': (one, one_secs), 'shared': (many, many_secs)})


def whole(case: Case) -> dict:
  """A step of the search with one candidate against a training step of the largest network.

  Both learn from a batch, and give answers for another as large: the search for its policy,
  training for nothing.
  """
  clips, dtype = case.here()
  net, batch = case.supernet(dtype), case.batch(clips)
  both, place = {**batch, 'valid': batch}, mesh.make_mesh(jax.devices()[:1])
  cost = net.make_cost_table()
  options = {'candidates': 1, 'optimizer': OPTIMIZER}
  search = oneshot.make_search_step(net, Objective(cost), LOSS, place, **options)
  settings = oneshot.make_settings(net.space.space, target=cost.bounds[1] / 2)
  state = oneshot.make_state(net, settings, OPTIMIZER)
  model = case.largest(net)
  tx = optimizers.make_optimizer(batch_size=clips, total_steps=100, warmup_steps=0, **OPTIMIZER)
  learn = steps.make_train_step(model, tx, LOSS, seed=0)
  answer = steps.make_eval_step(model)

  def train(state, batch):
    state, metrics = learn(state, batch)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    return state, metrics, answer(variables, batch['valid']['video'])

  start = make_state(mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3)), tx)
  one, one_secs = compile_program(train, start, both)
  many, many_secs = compile_program(search, state, both)
  states = itertools.cycle(
    # Other steps draw other networks.
    [state.replace(step=jnp.int32(step)) for step in range(1000, 1020)]
  )
  calls = {
    'alone': lambda: one(start, both),
    'shared': lambda: many(next(states), both),
  }
  return _compare(case, calls, {'alone': (one, one_secs), 'shared': (many, many_secs)})


def _compare(case: Case, calls, programs) -> dict:
  clips, dtype = case.here()
  times = time_in_turns(calls, rounds=25, budget_secs=60)
  temp = {
    name: program.memory_analysis().temp_size_in_bytes / 1e6
    for name, (program, _) in programs.items()
  }
  return {
    **{'clips': clips, 'dtype': dtype.__name__},
    **{f'{name}_ms': round(ms, 1) for name, ms in times.items()},
    'time_ratio': round(times['shared'] / times['alone'], 2),
    **{f'{name}_temporary_mb': round(mb, 1) for name, mb in temp.items()},
    'memory_ratio': round(temp['shared'] / temp['alone'], 2),
    **{f'{name}_compile_secs': round(secs, 1) for name, (_, secs) in programs.items()},
  }


def _find_average(net):
  """Of 200 random networks, that whose cost is nearest to their mean."""
  rng = np.random.default_rng(0)
  drawn = np.stack([net.space.space.sample(rng) for _ in range(200)])
  costs = net.make_cost_table().count(drawn)
  return drawn[np.argmin(np.abs(costs - costs.mean()))]


def buffers(case: Case) -> dict:
  """Supplement A.3, Table 1: memory of clips whole, and in halves through buffers.

  Of the quickstart's space, whatever the case, for networks have to be streams.
  """
  config = CASES['quick'].config.copy_and_resolve_references()
  config.space.update(kernels=((1, 3, 3), (3, 3, 3)), depth=2)
  net = CASES['quick']._replace(config=config).supernet(jnp.float32)
  params = jax.eval_shape(net.init, jax.random.key(0))
  choices = jnp.asarray(net.space.largest())
  cases = {
    'whole_b': (4, 1, 'exact'),
    'whole_2b': (8, 1, 'exact'),
    'halves_2b_truncated': (8, 2, 'truncated'),
    'halves_2b_exact': (8, 2, 'exact'),
  }
  result = {}
  for name, (clips, subclips, boundary) in cases.items():

    def learn(params, choices, batch, s=subclips, b=boundary):
      forward = oneshot.make_forward(net, choices)
      gradients = steps.make_gradients(forward, LOSS, subclips=s, boundary=b)
      return gradients(params, {}, batch, None)[0]

    program, _ = compile_program(learn, params, choices, make_batch(clips, 16, 64, 4))
    result[f'{name}_mb'] = round(program.memory_analysis().temp_size_in_bytes / 1e6, 1)
  base = result['whole_b_mb']
  ratios = {key.replace('_mb', '_ratio'): round(mb / base, 2) for key, mb in result.items()}
  return {**result, **ratios}


def estimate(case: Case, topology: str) -> dict:
  """Compiles the whole search step for TPUs that are not here, one candidate each."""
  devices, given = find_devices(find_topology(topology)), case.config.search
  place, net = mesh.make_mesh(devices), case.supernet(jnp.bfloat16)
  cost = net.make_cost_table()
  algorithm = oneshot.find_algorithm(given.get('algorithm', 'reinforce'))
  options = {'candidates': len(devices), 'optimizer': OPTIMIZER, 'algorithm': algorithm}
  step = oneshot.make_search_step(net, Objective(cost, given.reward), LOSS, place, **options)
  settings = oneshot.make_settings(net.space.space, algorithm, target=cost.bounds[1] / 2)
  state = jax.eval_shape(lambda: oneshot.make_state(net, settings, OPTIMIZER, algorithm))
  batch = jax.eval_shape(lambda: case.batch(case.clips * len(devices)))
  state, batch = (
    jax.tree.map(lambda x, s=sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree)
    for tree, sharding in (
      (state, mesh.replicated(place)),
      ({**batch, 'valid': batch}, mesh.split(place)),
    )
  )
  began = os.times()
  program, secs = compile_program(step, state, batch)
  spent = os.times().user - began.user
  memory, found = program.memory_analysis(), find_collectives(program.as_text())
  reduced = [one for one in found if one.kind == 'all-reduce']
  return {
    'topology': topology,
    'compile_secs': round(secs),
    'compile_user_secs': round(spent),
    'temporary_mb_a_device': round(memory.temp_size_in_bytes / 1e6, 1),
    'arguments_mb_a_device': round(memory.argument_size_in_bytes / 1e6, 1),
    'code_mb': round(memory.generated_code_size_in_bytes / 1e6, 1),
    'all_reduces': len(reduced),
    'all_reduce_mb': round(sum(one.bytes * one.times for one in reduced) / 1e6, 2),
    'weights_mb': round(sum(4 * x.size for x in jax.tree.leaves(state.params)) / 1e6, 2),
  }


PARTS = {'gradients': gradients, 'whole': whole, 'buffers': buffers}


def main(names):
  which = 'quick'
  if names and names[0] in CASES:
    which, *names = names
  case = CASES[which]
  if names[:1] == ['tpu']:
    if len(names) != 2:
      raise SystemExit('say for which TPUs, such as: tpu v5e:4x4')
    row = {'benchmark': 'search_tpu', 'space': which, **estimate(case, names[1])}
    print(json.dumps(row))
    return
  for name in names or PARTS:
    if name not in PARTS:
      raise SystemExit(f'no part {name!r}; there are {", ".join(PARTS)}, tpu')
    row = {'benchmark': f'search_{name}', 'space': which, **PARTS[name](case)}
    print(json.dumps({**row, **describe_machine()}), flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
