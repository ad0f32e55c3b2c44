"""Measure every part that a network of a space could have, for a search with latency as its cost.

  movinet latency --config=configs/search/movinet.py:a2-stream --out=runs/latency.jsonl
  movinet search --config=configs/search/movinet.py:a2-stream --workdir=runs/search \\
      --config.search.cost=latency_ns --config.search.latency=runs/latency.jsonl \\
      --config.search.target=NANOSECONDS

Times are nanoseconds of one call on the device at hand, without what it costs to start a
program: of one frame for networks that stream, else of the space's native clip. The same
command goes on after a stop. At the end a few networks are measured whole, beside the sums
of their parts.

For networks that will live elsewhere, measure in the runtime that will run them, with its threads:

  movinet latency --config=configs/search/movinet.py:a2-stream --runtime=litert --threads=1 \\
      --out=runs/litert.jsonl

Each part is then exported, as `movinet export` does it, and timed in LiteRT (or onnxruntime) on
the CPU, in float32.
"""

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import tqdm

from launch import devices
from launch.arguments import at_least_1, make_parser
from launch.config import parse_config
from launch.errors import ExitCode
from launch.runs import search
from movinet_jax import export, models
from nas import exported, machine, runtime


def main(argv: Sequence[str]) -> int:
  arguments, config = parse_config(make_arguments(), argv)
  clock = make_runtime(arguments)
  networks, dtype = search.make_networks(config.to_dict())
  if arguments.runtime != 'jax':
    dtype = 'float32'
  bench = networks.make_bench(
    arguments.num_classes,
    batch=arguments.batch,
    frames=arguments.frames,
    dtype=models.find_dtype(arguments.dtype or dtype),
  )
  times = measure_parts(bench, clock, Path(arguments.out))
  print_check(bench, clock, times, arguments.check)
  print(f'wrote {arguments.out}; search with\n')
  found = shlex.quote(f'--config.search.latency={arguments.out}')
  print(f'  --config.search.cost=latency_ns {found}')
  return ExitCode.DONE


def make_runtime(arguments: argparse.Namespace) -> runtime.Runtime | exported.Runtime:
  """What times are measured in; before JAX starts.

  Raises:
    ExportError: it is not installed.
    ValueError: it has no such type of numbers, or this machine fewer cores than threads.
  """
  threads, name = arguments.threads, arguments.runtime
  if name == 'jax':
    if threads:
      devices.limit_cores(threads, '--threads')
    devices.check_platform()
    return runtime.Runtime()
  if arguments.dtype not in (None, 'float32'):
    raise ValueError(f'--dtype={arguments.dtype}: exported files compute in float32 in {name}')
  jax.config.update('jax_platforms', 'cpu')  # where exported files run, whatever else there is
  cores = math.ceil(machine.count_cores())
  if threads and threads > cores:
    raise ValueError(f'--threads={threads}: this process may use {cores} cores')
  return exported.Runtime(name, threads or cores)


def measure_parts(bench, clock, path: Path) -> dict:
  """Measures the parts that a file does not have yet: times by part."""
  file = runtime.TimesFile(path, {**bench.about(), **clock.about})
  needed = bench.space.list_parts()
  absent = [part for part in needed if str(part) not in file.times]
  if len(absent) < len(needed):
    print(f'{len(needed) - len(absent)} of {len(needed)} parts are measured already')
  for part in tqdm.tqdm(absent, desc='Measuring', unit='part', disable=None):
    try:
      file.add(str(part), clock.measure_part_ns(bench.make_part(part)))
    except export.ExportError as error:
      raise export.ExportError(f'{part}: {error}') from error
  return bench.space.find_times(file.times)


def print_check(bench, clock, times: dict, count: int):
  """Measures random networks whole, beside the sums of their parts."""
  if not count:
    return
  table = bench.space.make_cost_table('latency_ns', times=times)
  rng = np.random.default_rng(0)
  drawn = [bench.space.space.sample(rng) for _ in range(count)]
  ratios = []
  print(f'\n{"network":>8} {"parts":>12} {"whole":>12} {"whole/parts":>12}')
  for i, choices in enumerate(drawn):
    whole, summed = clock.measure_network_ns(bench.make_network(choices)), table.count(choices)
    ratios.append(whole / summed)
    print(f'{i:8} {summed / 1e6:9.3f} ms {whole / 1e6:9.3f} ms {ratios[-1]:12.2f}')
  print(f'{"mean":>8} {"":>12} {"":>12} {np.mean(ratios):12.2f}\n')


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('latency', __doc__)
  parser.add_argument('--out', type='path', required=True, help='file of times; it may be there')
  parser.add_argument(
    '--runtime', choices=('jax', *exported.FORMATS), default='jax', help='default: jax'
  )
  parser.add_argument('--threads', type=at_least_1, help='of the CPU to use; default: all cores')
  parser.add_argument('--batch', type=at_least_1, default=1, help='clips at a time')
  parser.add_argument('--frames', type=at_least_1, help='of each call; see above')
  parser.add_argument('--num-classes', type=at_least_1, default=600)
  parser.add_argument('--dtype', help="float32 or bfloat16; default: the config's")
  parser.add_argument('--check', type=int, default=5, help='networks measured whole at the end')
  return parser
