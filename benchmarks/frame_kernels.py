"""How many kernels a stream's next frame is on a GPU that is not here.

  python benchmarks/frame_kernels.py             A0, for an H100
  python benchmarks/frame_kernels.py a2 a5 x3d/s-stream
  python benchmarks/frame_kernels.py a0 --topology=a100:1 --dtype=float32

Prints a JSON line for each network: kernels of the frame step, kernels of the network as it is
written, and the seconds to trace and compile each. It needs the compiler of `jax[cuda13]`. XLA
chooses without trying on a GPU, so there the numbers may differ by a few.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
from timing import count_kernels

import movinet_jax as mj
from launch.pods.preflight.machine import find_machine
from movinet_jax import timing
from movinet_jax.serve import Exact
from movinet_jax.serve.frame import FrameStep
from movinet_jax.serve.live import NetworkStep


def main(arguments=None):
  jax.config.update('jax_platforms', 'cpu')
  raw = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
  parser.add_argument(
    'variants', nargs='*', default=['a0'], help='such as a0 or x3d/s-stream; default: a0'
  )
  parser.add_argument('--topology', default='h100:1', help='default: %(default)s')
  parser.add_argument('--dtype', default='bfloat16', choices=('bfloat16', 'float32'))
  given = parser.parse_args(arguments)
  device = find_machine(given.topology).devices[0]
  for variant in given.variants:
    name = variant if '/' in variant else f'movinet/{variant}-stream'
    model = mj.create(name, dtype=jnp.dtype(given.dtype))
    size = (model.spec.resolution,) * 2
    call = model, timing.draw_weights(model), size, jax.nn.softmax
    row = {'network': name, 'dtype': given.dtype, 'gpu': given.topology}
    for name, compile_for in {'frame': compile_frame, 'as_written': compile_network}.items():
      began = time.perf_counter()
      row[f'{name}_kernels'] = count_kernels(compile_for(call, device))
      row[f'{name}_secs'] = round(time.perf_counter() - began, 1)
    print(json.dumps(row), flush=True)


def compile_frame(call, device):
  """Compiles the next frame as a frame step."""
  return FrameStep(*call, device=device).program


def compile_network(call, device):
  """Compiles the next frame as the network is written."""
  model, _, size, _ = call
  start = model.init_state(1, size)
  return NetworkStep(*call, frames=1, memory=Exact(), start=start, device=device).program


if __name__ == '__main__':
  main()
