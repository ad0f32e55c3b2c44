"""MoViNets whole: clips and live frames against XLA's convolution; a training step.

python benchmarks/movinet.py          prints a JSON line each; about four minutes
python benchmarks/movinet.py stream   only the named parts: clip, stream, train
"""

import json
import sys

from launch.main import use_huge_pages

if __name__ == '__main__':
  use_huge_pages()  # as the command does, which starts anew: so before all else

import jax
import jax.numpy as jnp
import numpy as np
from timing import describe_machine

import movinet_jax as mj
from movinet_jax import serve
from movinet_jax.timing import compile_program, draw_weights, time_in_turns
from movinet_jax.train import losses, optimizers, state, steps

FORMS = ('shifted', 'native')


def clip() -> dict:
  """A0 on 8 frames of 172², against the same network with XLA's grouped convolution."""
  models = {form: mj.create('movinet/a0', form=form) for form in FORMS}
  variables = mj.init(models['shifted'], jax.random.key(0), (1, 8, 172, 172, 3))
  x = jax.random.uniform(jax.random.key(1), (1, 8, 172, 172, 3))
  programs = {f: compile_program(m.apply, variables, x)[0] for f, m in models.items()}
  calls = {form: lambda p=p: p(variables, x) for form, p in programs.items()}
  times = time_in_turns(calls)
  result = {f'{form}_ms': round(ms, 1) for form, ms in times.items()}
  return {**result, 'ratio': round(times['native'] / times['shifted'], 1)}


def stream() -> dict:
  """Live, milliseconds a frame, frame by frame and 8 frames a call.

  Beside it in turns: the network as it is written, and with XLA's grouped convolution.
  """
  result = {}
  for name, size in (('a0', 172), ('a2', 224)):
    for frames in (1, 8):
      shape = 1, frames, size, size, 3
      pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
      calls = {'live': _make_live_call(name, pixels)}
      calls |= {form: _make_stream_call(name, form, pixels) for form in FORMS}
      for side, ms in time_in_turns(calls, rounds=100).items():
        result[f'{name}_chunk{frames}_{side}_ms_per_frame'] = round(ms / frames, 2)
  return result


def _make_live_call(name, pixels):
  model = mj.create(f'movinet/{name}-stream')
  live = serve.Live(model, draw_weights(model), pixels.shape[2:4], pixels.shape[1])
  return lambda: live(pixels[0]).probabilities


def _make_stream_call(name, form, pixels):
  """A call that takes the next frames, with the state of the call before."""
  model = mj.create(f'movinet/{name}-stream', form=form)
  variables = jax.tree.map(jnp.asarray, draw_weights(model))
  x, carried = jnp.float32(pixels) / 255, [model.init_state(1, pixels.shape[2:4])]
  # Weights as constants, as movinet_jax.serve.Live has them.
  step, _ = compile_program(lambda x, s: model.apply(variables, x, s), x, *carried)

  def call():
    logits, carried[0] = step(x, carried[0])
    return logits

  return call


def train() -> dict:
  """A0's training step, 2 clips of 8 frames of 64², against its forward passes.

  As `movinet train` runs it, with the state donated.
  """
  model = mj.create('movinet/a0', dropout=0.2, stochastic_depth=0.2)
  variables = mj.init(model, jax.random.key(0), (2, 8, 64, 64, 3))
  tx = optimizers.make_optimizer(batch_size=2, total_steps=100)
  loss = losses.make_loss('softmax', label_smoothing=0.1)
  step = steps.make_train_step(model, tx, loss, seed=0)
  current = state.make_state(variables, tx)
  batch = {
    'video': jax.random.uniform(jax.random.key(1), (2, 8, 64, 64, 3)),
    'label': jnp.array([3, 5]),
    'mask': jnp.ones(2),
  }
  step, compile_secs = compile_program(step, current, batch, donate_argnums=0)
  carried = [current]

  def train_step():
    carried[0], _ = step(carried[0], batch)
    return carried[0]

  def training_forward(variables, x):
    keys = {'dropout': jax.random.key(0)}
    return model.apply(variables, x, train=True, rngs=keys, mutable=['batch_stats'])

  video = batch['video']
  forward, _ = compile_program(model.apply, variables, video)
  training, _ = compile_program(training_forward, variables, video)
  calls = {
    'step': train_step,
    'forward': lambda: forward(variables, video),
    'training_forward': lambda: training(variables, video),
  }
  times = time_in_turns(calls, rounds=40)
  return {
    **{f'{name}_ms': round(ms, 1) for name, ms in times.items()},
    'ratio': round(times['step'] / times['forward'], 2),
    'ratio_to_training_forward': round(times['step'] / times['training_forward'], 2),
    'compile_secs': round(compile_secs, 1),
  }


PARTS = {'clip': clip, 'stream': stream, 'train': train}


def main(names):
  for name in names or PARTS:
    if name not in PARTS:
      raise SystemExit(f'no part {name!r}; there are {", ".join(PARTS)}')
    row = {'benchmark': f'movinet_{name}', **PARTS[name](), **describe_machine()}
    print(json.dumps(row), flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
