"""The one-shot search beside training one network: time, memory, compilation.

python benchmarks/search.py                  the quickstart's space; four minutes
python benchmarks/search.py step             only the named parts: step, buffers
python benchmarks/search.py a2               the space of A2, its largest network; twenty
python benchmarks/search.py tpu v5e:4x4      what the compiler says of the whole search
                                             step on TPUs that are not here (pip install
                                             libtpu); quick or a2 may follow
"""

import json
import sys

from launch.main import use_huge_pages

if __name__ == '__main__':
  use_huge_pages()  # as the command does, which starts anew: so before all else

import jax
import jax.numpy as jnp
from timing import compile_program, describe_machine, time_in_turns

import movinet_jax as mj
from configs.search import movinet as a2_config
from configs.search import quickstart
from movinet_jax.train import losses, mesh, steps
from nas import oneshot
from nas.objective import Objective
from nas.spaces import movinet
from nas.supernet import Supernet, extract

LOSS = losses.make_loss('softmax', label_smoothing=0.1)
OPTIMIZER = {'name': 'sgd', 'momentum': 0.9}


def make_batch(count, frames, size, classes) -> dict:
  keys = jax.random.split(jax.random.key(0))
  return {
    'video': jax.random.uniform(keys[0], (count, frames, size, size, 3)),
    'label': jax.random.randint(keys[1], (count,), 0, classes),
    'mask': jnp.ones(count),
  }


def step() -> dict:
  """Gradients of the supernet on the largest network against those of it alone."""
  space = movinet.make_space(**quickstart.get_config().space.to_dict())
  return compare_largest(space, make_batch(8, 12, 32, 4), classes=4)


def a2() -> dict:
  """The same for A2's space, on 8 frames of 112²."""
  space = movinet.make_space(**a2_config.get_config('a2').space.to_dict())
  return compare_largest(space, make_batch(2, 8, 112, 600), classes=600)


def compare_largest(space, batch, classes) -> dict:
  net = Supernet(space, classes)
  params = jax.jit(net.init)(jax.random.key(0))
  choices = jnp.asarray(space.largest())
  rng_choices = jnp.asarray(_find_average(space))

  def shared(params, choices, batch):
    forward = oneshot.make_forward(net, choices)
    return steps.make_gradients(forward, LOSS)(params, {}, batch, None)[0]

  model = mj.create('movinet', classes, spec=space.decode(space.largest()))
  variables = extract(net, params, space.largest())

  def alone(variables, batch):
    def objective(params):
      state = {**variables, 'params': params}
      (logits, _), _ = model.apply(
        state, batch['video'], train=True, mutable=['batch_stats']
      )
      return LOSS(logits, batch['label'], batch['mask'])

    return jax.grad(objective)(variables['params'])

  one, one_secs = compile_program(alone, variables, batch)
  many, many_secs = compile_program(shared, params, choices, batch)
  calls = {
    'alone': lambda: one(variables, batch),
    'shared': lambda: many(params, choices, batch),
    'shared_on_average_network': lambda: many(params, rng_choices, batch),
  }
  times = time_in_turns(calls, rounds=25)
  temp = {
    name: program.memory_analysis().temp_size_in_bytes / 1e6
    for name, program in (('alone', one), ('shared', many))
  }
  return {
    **{f'{name}_ms': round(ms, 1) for name, ms in times.items()},
    'time_ratio': round(times['shared'] / times['alone'], 2),
    **{f'{name}_temporary_mb': round(mb, 1) for name, mb in temp.items()},
    'memory_ratio': round(temp['shared'] / temp['alone'], 2),
    'alone_compile_secs': round(one_secs, 1),
    'shared_compile_secs': round(many_secs, 1),
  }


def _find_average(space):
  """Of 200 random networks, that whose cost is nearest to their mean."""
  import numpy as np

  rng = np.random.default_rng(0)
  drawn = np.stack([space.space.sample(rng) for _ in range(200)])
  costs = movinet.make_cost_table(space).count(drawn)
  return drawn[np.argmin(np.abs(costs - costs.mean()))]


def buffers() -> dict:
  """Supplement A.3, Table 1: memory of clips whole, and in halves through buffers."""
  options = quickstart.get_config().space.to_dict()
  options |= {'kernels': ((1, 3, 3), (3, 3, 3)), 'depth': 2}
  net = Supernet(movinet.make_space(**options), 4)
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
  ratios = {
    key.replace('_mb', '_ratio'): round(mb / base, 2) for key, mb in result.items()
  }
  return {**result, **ratios}


def estimate(topology: str, which: str = 'quick') -> dict:
  """Compiles the whole search step for TPUs that are not here, one candidate each."""
  import os

  from jax.experimental import topologies

  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')  # Nobody need be asked what is here.
  devices = topologies.get_topology_desc(platform='tpu', topology_name=topology).devices
  place = mesh.make_mesh(devices)
  config, dtype = quickstart.get_config(), jnp.float32
  if which == 'a2':
    config, dtype = a2_config.get_config('a2'), jnp.bfloat16
  space = movinet.make_space(**config.space.to_dict())
  classes, clips = (600, (4, 8, 112)) if which == 'a2' else (4, (8, 12, 32))
  net, cost = Supernet(space, classes, dtype=dtype), movinet.make_cost_table(space)
  options = {'candidates': len(devices), 'optimizer': OPTIMIZER}
  step = oneshot.make_search_step(net, Objective(cost), LOSS, place, **options)
  settings = oneshot.make_settings(space.space, target=cost.bounds[1] / 2)
  state = jax.eval_shape(lambda: oneshot.make_state(net, settings, OPTIMIZER))
  batch = jax.eval_shape(
    lambda: make_batch(clips[0] * len(devices), *clips[1:], classes)
  )
  put = lambda tree, sharding: jax.tree.map(  # noqa: E731
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )
  batch = put({**batch, 'valid': batch}, mesh.split(place))
  program, secs = compile_program(step, put(state, mesh.replicated(place)), batch)
  memory, text = program.memory_analysis(), program.as_text()
  return {
    'space': which,
    'topology': topology,
    'compile_secs': round(secs),
    'temporary_mb_a_device': round(memory.temp_size_in_bytes / 1e6, 1),
    'arguments_mb_a_device': round(memory.argument_size_in_bytes / 1e6, 1),
    'all_reduces': text.count(' all-reduce(') + text.count(' all-reduce-start('),
    'gradient_mb': round(
      sum(x.size * 4 for x in jax.tree.leaves(state.params)) / 1e6, 2
    ),
  }


PARTS = {'step': step, 'buffers': buffers, 'a2': a2}


def main(names):
  if names[:1] == ['tpu']:
    print(json.dumps({'benchmark': 'search_tpu', **estimate(*names[1:])}))
    return
  for name in names or ('step', 'buffers'):
    if name not in PARTS:
      raise SystemExit(f'no part {name!r}; there are {", ".join(PARTS)}')
    row = {'benchmark': f'search_{name}', **PARTS[name](), **describe_machine()}
    print(json.dumps(row), flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
