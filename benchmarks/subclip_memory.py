"""Memory of a training step against the length of the clip, sub-clip by sub-clip.

    python -m benchmarks.subclip_memory --model=movinet/a0-stream --size=64

Prints one JSON line: temporary bytes of the compiled step at each number of frames,
for each way to run a clip, as XLA's buffer assignment counts them (the clip itself is
an argument and not among them), and the growth from the shortest clip to the longest.
Nothing is executed. MoViNet, supplement A.3 and C.4.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp

import movinet_jax as mj
from movinet_jax.train.losses import make_loss
from movinet_jax.train.optimizers import make_optimizer
from movinet_jax.train.state import make_state
from movinet_jax.train.steps import make_train_step


def main():
  args = _read_arguments()
  model = mj.create(args.model, num_classes=args.classes)
  result = {
    'benchmark': 'subclip_memory',
    'model': args.model,
    'batch': args.batch,
    'size': args.size,
    'subclip_frames': args.subclip_frames,
    'frames': args.frames,
    'backend': jax.default_backend(),
  }
  for boundary in args.boundaries:
    began = time.perf_counter()
    sizes = [count_temp_bytes(model, args, boundary, n) for n in args.frames]
    result[boundary] = {
      'temp_bytes': sizes,
      'growth': round(sizes[-1] / sizes[0], 4),
      'compile_secs': round(time.perf_counter() - began, 1),
    }
  print(json.dumps(result))


def count_temp_bytes(model, args, boundary: str, frames: int) -> int:
  """Temporary bytes of the compiled step; 'whole' runs the clip in one piece."""
  whole = boundary == 'whole'
  tx = make_optimizer(batch_size=args.batch, total_steps=2)
  step = make_train_step(
    model,
    tx,
    make_loss(),
    seed=0,
    subclips=1 if whole else frames // args.subclip_frames,
    boundary='exact' if whole else boundary,
  )
  shape = (args.batch, args.subclip_frames, args.size, args.size, 3)
  state = jax.eval_shape(lambda: make_state(mj.init(model, jax.random.key(0), shape), tx))
  batch = {
    'video': jax.ShapeDtypeStruct((args.batch, frames, *shape[2:]), jnp.uint8),
    'label': jax.ShapeDtypeStruct((args.batch,), jnp.int32),
    'mask': jax.ShapeDtypeStruct((args.batch,), jnp.float32),
  }
  compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def _read_arguments():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--model', default='movinet/a0-stream')
  parser.add_argument('--classes', type=int, default=600)
  parser.add_argument('--batch', type=int, default=2, help='clips')
  parser.add_argument('--size', type=int, default=64, help='pixels, height and width')
  parser.add_argument('--subclip_frames', type=int, default=8)
  parser.add_argument('--frames', type=int, nargs='+', default=[16, 256])
  parser.add_argument(
    '--boundaries',
    nargs='+',
    default=['truncated', 'exact'],
    choices=['truncated', 'exact', 'whole'],
  )
  return parser.parse_args()


if __name__ == '__main__':
  main()
