"""X3D-S against PyTorch, in turns in one run: clips of 13 x 160², and training on them.

python benchmarks/x3d.py            prints a JSON line each; about six minutes
python benchmarks/x3d.py forward    only the named parts: forward, train

PyTorch is no requirement: where it is missing (`pip install torch`), its side is left out.
There, the same network runs as it is (`eager`, channels_last_3d) and compiled (`compiled`,
forward only: a C++ compiler is needed), with the same weights; logits are compared.
Where other programs use the machine, the least times are those to look at, and `taskset -c 0`
before the command measures one core, for which they need not get all at the same moment.
"""

import json
import os
import statistics
import sys
import tempfile
import time

from launch.main import use_huge_pages

if __name__ == '__main__':
  use_huge_pages()  # as the command does, which starts anew: so before all else

import jax
import jax.numpy as jnp
import numpy as np
from timing import describe_machine

import movinet_jax as mj
from movinet_jax import inference
from movinet_jax.timing import compile_program
from movinet_jax.train import losses

try:
  import torch
except ImportError:
  torch = None
else:
  import x3d_torch

CLASSES = 400
TOLERANCE = 1e-4  # of the largest logit


def time_in_turns(calls, rounds: int = 30, budget_secs: float = 60) -> dict:
  """Least and median milliseconds of each call, one after the other in every round.

  The machine is idle for a moment before each: threads that wait for more of the same
  work would take a core away from the next.
  """
  for call in calls.values():
    call()
    call()
  times = {name: [] for name in calls}
  began = time.perf_counter()
  for n in range(rounds):
    for name, call in calls.items():
      time.sleep(0.05)
      start = time.perf_counter()
      call()
      times[name].append(1e3 * (time.perf_counter() - start))
    if n >= 4 and time.perf_counter() - began > budget_secs:
      break
  result = {}
  for name, all_ms in times.items():
    result[f'{name}_least_ms'] = round(min(all_ms), 1)
    result[f'{name}_median_ms'] = round(statistics.median(all_ms), 1)
  for name in list(calls)[1:]:
    ratio = result['ours_least_ms'] / result[f'{name}_least_ms']
    result[f'ratio_to_{name}'] = round(ratio, 2)
  return result


def forward() -> dict:
  """One clip, evaluated."""
  model, video = mj.create('x3d/s', CLASSES), make_video(1)
  theirs = make_theirs(model.spec)
  variables = load(theirs, model)
  program, compile_secs = compile_program(
    lambda variables, x: model.apply(variables, x)[0],
    variables,
    video,
    compiler_options=inference.find_options('cpu'),
  )
  calls = {'ours': lambda: jax.block_until_ready(program(variables, video))}
  more = {'compile_secs': round(compile_secs, 1)}
  if theirs is not None:
    eager, x = theirs.eval(), to_torch(video)
    # Beside dynamic shapes, so many layers are the more than 8 that are compiled at most.
    torch._dynamo.config.recompile_limit = 1000
    compiled = torch.compile(eager)

    def call(network):
      with torch.inference_mode():
        return network(x)

    calls |= {'eager': lambda: call(eager), 'compiled': lambda: call(compiled)}
    wanted = calls['ours']()
    for name in ('eager', 'compiled'):
      check_close(name, calls[name]().numpy(), wanted)
  return {**time_in_turns(calls), **more}


def train() -> dict:
  """Loss and gradients of two clips, with batch statistics and dropout."""
  model, video = mj.create('x3d/s', CLASSES, dropout=0.5), make_video(2)
  theirs = make_theirs(model.spec)
  variables, label = load(theirs, model), np.array([3, 5])
  loss = losses.make_loss('softmax')

  def objective(params, stats, video, key):
    logits, new = model.apply(
      {'params': params, 'batch_stats': stats},
      video,
      train=True,
      rngs={'dropout': key},
      mutable=['batch_stats'],
    )
    return loss(logits[0], label, jnp.ones(2)), new

  arguments = variables['params'], variables['batch_stats'], video, jax.random.key(0)
  program, compile_secs = compile_program(jax.value_and_grad(objective, has_aux=True), *arguments)
  calls = {'ours': lambda: jax.block_until_ready(program(*arguments))}
  temporary = program.memory_analysis().temp_size_in_bytes
  more = {
    'temporary_mb': round(temporary / 1e6),
    'compile_secs': round(compile_secs, 1),
  }
  if theirs is not None:
    network, x, y = theirs.train(), to_torch(video), torch.from_numpy(label)

    def step():
      network.zero_grad()
      torch.nn.functional.cross_entropy(network(x), y).backward()

    calls['eager'] = step
  return {**time_in_turns(calls), **more}


def make_video(clips: int) -> jax.Array:
  return jax.random.uniform(jax.random.key(1), (clips, 13, 160, 160, 3))


def make_theirs(spec):
  """PyTorch's network, None without PyTorch; its norms are not those of a fresh one."""
  if torch is None:
    return None
  torch.manual_seed(0)
  network = x3d_torch.Network(spec, CLASSES, dropout=0.5)
  for name, value in network.state_dict().items():
    if 'norm' in name and value.ndim == 1:
      value.uniform_(0.5, 1.5)
  return network.to(memory_format=torch.channels_last_3d)


def load(theirs, model):
  """Our variables: the other's weights, or random ones."""
  if theirs is None:
    return mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3))
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'x3d.pt')
    torch.save(theirs.state_dict(), path)
    return mj.convert.load(path, model)


def to_torch(video):
  x = torch.from_numpy(np.array(video)).permute(0, 4, 1, 2, 3)
  return x.contiguous(memory_format=torch.channels_last_3d)


def check_close(name, logits, ours):
  error = np.abs(logits - np.asarray(ours)).max() / np.abs(logits).max()
  if not error < TOLERANCE:
    raise SystemExit(f'logits of {name} differ by {error:.1e} of the largest')


def describe_rest() -> dict:
  """Cores to run on, how many programs wanted one (of all users), PyTorch's version."""
  return {
    'cores': len(os.sched_getaffinity(0)),
    'load': round(os.getloadavg()[0], 1),
    'torch': torch.__version__ if torch else None,
  }


PARTS = {'forward': forward, 'train': train}


def main(names):
  if torch is None:
    print('no PyTorch here: its side is left out', file=sys.stderr)
  for name in names or PARTS:
    if name not in PARTS:
      raise SystemExit(f'no part {name!r}; there are {", ".join(PARTS)}')
    row = {'benchmark': f'x3d_{name}', **PARTS[name](), **describe_machine()}
    print(json.dumps({**row, **describe_rest()}), flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
