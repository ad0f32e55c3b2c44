"""A stream live, and exported in each runtime: milliseconds a frame, in turns.

  python benchmarks/export.py                      A0- and A2-stream, one thread and two
  python benchmarks/export.py --networks=movinet/a0-stream --threads=1 --rounds=20

All take the same frames and answer the same (the table says how far they are from the network).
Sides run in turns in one process, which may use as many cores as there are threads. A frame counts
from pixels on the host to the answer on the host, with the state kept.

  live              what `movinet stream` runs on a CPU
  network           the network as it is written, compiled, with its state on the device
  litert, swapped   our TFLite file; buffers of states change places, and nothing is copied
  litert, alone     the same file's operations only: no pixels go in, and no answer comes out
  litert, copied    the same file; states are copied out and in, as most programs do
  tensorflow        TensorFlow's own converter on the same graph, through its Interpreter
  onnxruntime       our ONNX file
  stablehlo         our StableHLO file

`live` takes bytes and gives probabilities; the others take float32 and give logits.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def make_sides(name: str, threads: int, home: pathlib.Path) -> tuple[dict, tuple]:
  """Functions frame -> answer by name, and the shape of a frame, [1, 1, H, W, 3]."""
  import jax
  import numpy as np

  import movinet_jax as mj
  from movinet_jax import export, serve, timing
  from movinet_jax.export import formats

  model = mj.create(name)
  size = (model.spec.resolution,) * 2
  variables = timing.draw_weights(model)
  source = export.plan(model, variables, size)
  live = serve.Live(model, variables, size)
  sessions = {}
  for kind in ('tflite', 'onnx', 'stablehlo'):
    form = formats.load(kind)
    path = home / form.FILE
    interface = form.write(source, path)
    sessions[kind] = form.make_session(path, interface, 1, threads)
  step, state = jax.jit(source.make_step()), source.begin()

  def run_network(frame):
    nonlocal state
    logits, state = step(frame, state)
    return np.asarray(logits)

  call = sessions['tflite'].fork().make_call({'image': np.zeros((1, *size, 3), np.float32)})
  sides = {
    'live': lambda frame: live(frame[0]).probabilities,
    'network': run_network,
    'litert, swapped': sessions['tflite'],
    'litert, alone': lambda frame: call(),
    'litert, copied': copy_states(sessions['tflite'].fork()),
    'tensorflow': run_tensorflow(source.program, threads),
    'onnxruntime': sessions['onnx'],
    'stablehlo': sessions['stablehlo'],
  }
  return sides, source.shape


def copy_states(session):
  """A stream whose states are arrays of NumPy between its calls."""
  inputs = session.interface.inputs
  states = {name: inputs[name].make_zeros() for name in session.interface.states}

  def run(frame):
    nonlocal states
    logits, states = session.step(frame, states)
    return logits

  return run


def run_tensorflow(program, threads: int):
  """What TensorFlow's converter makes of the graph, run as TensorFlow's documentation says."""
  import numpy as np
  import tensorflow as tf

  from movinet_jax.export import as_tensorflow

  module = tf.Module()
  module.step = as_tensorflow.emit(program.graph)
  converter = tf.lite.TFLiteConverter.from_concrete_functions([module.step], module)
  interpreter = tf.lite.Interpreter(model_content=converter.convert(), num_threads=threads)
  runner = interpreter.get_signature_runner()
  states = {name: np.zeros(program.graph.inputs[name].shape, np.float32) for name in program.states}

  def run(frame):
    nonlocal states
    found = runner(image=frame[:, 0], **states)
    states = {name: found[after] for name, after in program.states.items()}
    return found['logits']

  return run


def measure(name: str, threads: int, rounds: int, frames: int) -> list[dict]:
  """Rows of one network."""
  import numpy as np

  rng = np.random.default_rng(0)
  with tempfile.TemporaryDirectory() as folder:
    sides, shape = make_sides(name, threads, pathlib.Path(folder))
    pixels = rng.integers(0, 256, (frames, *shape), np.uint8)
    given = {side: pixels.astype(np.float32) / 255 for side in sides} | {'live': pixels}
    answers = {side: [run(frame) for frame in given[side]] for side, run in sides.items()}
    times = {side: [] for side in sides}
    for _ in range(rounds):
      for side, run in sides.items():
        for frame in given[side]:
          began = time.perf_counter()
          run(frame)
          times[side].append(1e3 * (time.perf_counter() - began))
  answers = {side: normalize(side, found) for side, found in answers.items()}
  return [
    {
      'network': name,
      'threads': threads,
      'side': side,
      'median_ms': round(statistics.median(own), 3),
      'p20_ms': round(float(np.percentile(own, 20)), 3),
      'least_ms': round(min(own), 3),
      'error': find_error(answers[side], answers['network']),
      'load': round(os.getloadavg()[0], 1),
    }
    for side, own in times.items()
  ]


def normalize(side: str, answers):
  """Probabilities [T, N]; None of a side that answers nothing."""
  import numpy as np
  from scipy import special

  if answers[0] is None or side == 'live':
    return None if answers[0] is None else np.stack(answers)
  return special.softmax(np.concatenate(answers), -1)


def find_error(found, wanted) -> float | None:
  """The largest difference, of the largest probability."""
  return None if found is None else float(abs(found - wanted).max() / wanted.max())


def print_table(rows: list[dict]):
  from launch.tables import align

  p20 = {row['side']: row['p20_ms'] for row in rows}
  cells = [('side', 'median', '20 %', 'least', 'error')]
  for row in rows:
    numbers = [f'{row[key]:.2f}' for key in ('median_ms', 'p20_ms', 'least_ms')]
    error = '' if row['error'] is None else f'{row["error"]:.0e}'
    cells.append((row['side'], *numbers, error))
  threads, first = rows[0]['threads'], rows[0]
  print(f'\n{first["network"]}, {threads} thread{"s" * (threads > 1)}, ms a frame')
  print('\n'.join(align(cells, '<>>>>')))
  ours, alone, swapped = p20['live'], p20['litert, alone'], p20['litert, swapped']
  print(
    f"live: {ours / alone:.2f} of LiteRT's operations alone, {ours / swapped:.2f} of its frame, "
    f'{ours / p20["network"]:.2f} of the network as it is written (20 %)',
    flush=True,
  )


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--networks', default='movinet/a0-stream,movinet/a2-stream')
  parser.add_argument('--threads', default='1,2')
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--frames', type=int, default=20, help='of each side in a round')
  parser.add_argument('--out', help='file for a line of JSON for each side')
  parser.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  if not arguments.one:
    # A process for each number of threads: runtimes keep the threads that they began with.
    for threads in arguments.threads.split(','):
      again = [f'--{key}={getattr(arguments, key)}' for key in ('networks', 'rounds', 'frames')]
      again += [f'--out={arguments.out}'] * bool(arguments.out)
      command = [sys.executable, __file__, *again, f'--threads={threads}', '--one']
      subprocess.run(command, check=True)
    return
  from launch.devices import limit_cores

  limit_cores(int(arguments.threads))
  from timing import describe_machine

  for name in arguments.networks.split(','):
    rows = measure(name, int(arguments.threads), arguments.rounds, arguments.frames)
    print_table(rows)
    if arguments.out:
      with open(arguments.out, 'a') as file:
        file.writelines(json.dumps({**row, **describe_machine()}) + '\n' for row in rows)


if __name__ == '__main__':
  main()
