"""Does the sum of parts predict how long a network takes in the runtime that it will live in?

  python benchmarks/latency.py                           LiteRT and onnxruntime, one thread
  python benchmarks/latency.py --runtime=litert --networks=30 --secs=60 --picture=latency.png

Random networks of the quickstart's search space are exported and timed whole. Beside that stands
the sum of the times of their parts, which `movinet latency` measures and a search takes as its
cost, and what a search without measurements would take: multiply-adds, as milliseconds by the line
through zero that fits best. Everything is timed in turns, in several rounds, of which the median
counts. All times are without what a call costs by itself; the table says that, too.

Prints a table, and a JSON line for each predictor: Kendall's τ between it and the measured time,
the mean of its relative error (`scaled`: by the line through zero that fits best), and the mean of
measured over predicted.
"""

import argparse
import json
import os
import statistics
import time

import jax
import numpy as np
import tqdm
from scipy.stats import kendalltau
from timing import describe_machine

from launch.config import load_config
from launch.runs import search
from launch.tables import align
from nas import exported, machine

CONFIG, CLASSES = 'configs/search/quickstart.py', 4
ROUND_SECS = 0.005


def draw(networks, count: int) -> list:
  """Choices of random networks, each once."""
  rng, found = np.random.default_rng(0), {}
  while len(found) < count:
    choices = networks.space.sample(rng)
    found.setdefault(networks.decode(choices), choices)
  return list(found.values())


def measure(networks, drawn, runtime, secs: float, copies: int) -> tuple[dict, list[int], float]:
  """Nanoseconds of each part by name, of each network, and of a call that does nothing."""
  bench, parts = networks.make_bench(CLASSES), networks.list_parts()
  works = [(bench.make_part(part), copies) for part in parts]
  works += [(bench.make_network(choices), 1) for choices in drawn]
  ready = [runtime.prepare(*work) for work in tqdm.tqdm(works, 'Exporting', disable=None)]
  rounds = max(3, round(secs / (2 * ROUND_SECS * len(ready))))
  times = [
    [one.measure_ns(rounds=1, round_secs=ROUND_SECS) for one in ready]
    for _ in tqdm.trange(rounds, desc='Measuring', disable=None)
  ]
  found = [round(statistics.median(own)) for own in zip(*times, strict=True)]
  _, call_ns = ready[-1].time_ns(rounds=5, round_secs=ROUND_SECS)
  return dict(zip(map(str, parts), found, strict=False)), found[len(parts) :], call_ns


def compare(networks, drawn, times, measured) -> dict[str, tuple[np.ndarray, dict]]:
  """What each predictor says of the networks, in milliseconds, and how good that is."""
  measured = np.array(measured) / 1e6
  latency = networks.make_cost_table('latency_ns', times=networks.find_times(times))
  clip = 1, *(networks.base.resolution,) * 2
  macs = networks.make_cost_table('macs', num_classes=CLASSES, clip=clip)
  summed = np.array([latency.count(choices) for choices in drawn]) / 1e6
  counted = np.array([macs.count(choices) for choices in drawn], float)
  fitted = counted * (counted @ measured) / (counted @ counted)
  offset = np.polyval(np.polyfit(counted, measured, 1), counted)
  predictors = {
    'sum of parts': summed,
    'multiply-adds': fitted,
    'multiply-adds, with an offset': offset,
  }
  return {name: (given, judge(given, measured)) for name, given in predictors.items()}


def judge(predicted, measured) -> dict:
  ratios = measured / predicted
  scaled = predicted * (predicted @ measured) / (predicted @ predicted)
  return {
    'tau': round(float(kendalltau(predicted, measured)[0]), 3),
    'error': round(float(np.abs(1 / ratios - 1).mean()), 4),
    'error_scaled': round(float(np.abs(scaled / measured - 1).mean()), 4),
    'ratio': round(float(ratios.mean()), 3),
    'ratio_least': round(float(ratios.min()), 3),
    'ratio_most': round(float(ratios.max()), 3),
  }


def print_table(name: str, found: dict, measured, call_ns: float):
  low, high = (f'{ns / 1e3:.0f}' for ns in (min(measured), max(measured)))
  call = f'a call costs {call_ns / 1e3:.1f} µs by itself'
  print(f'\n{name}: {len(measured)} networks of {low} to {high} µs; {call}')
  rows = [('predictor', "Kendall's τ", 'error', 'scaled', 'measured / predicted')]
  for predictor, (_, row) in found.items():
    spread = f'{row["ratio"]:.2f} ({row["ratio_least"]:.2f}–{row["ratio_most"]:.2f})'
    errors = (f'{row[key]:.1%}' for key in ('error', 'error_scaled'))
    rows.append((predictor, f'{row["tau"]:.2f}', *errors, spread))
  print('\n'.join(align(rows, '<>>>>')) + '\n')


def draw_picture(path: str, found: dict[str, tuple]):
  """Predicted against measured, a panel for each runtime."""
  import matplotlib

  matplotlib.use('agg')
  from matplotlib import pyplot

  figure, panels = pyplot.subplots(
    1, len(found), figsize=(4.2 * len(found), 4), squeeze=False, layout='constrained'
  )
  for panel, (name, (predictors, measured)) in zip(panels[0], found.items(), strict=True):
    measured = np.array(measured) / 1e6
    for label, color, mark in (('multiply-adds', '#b0b0b0', 's'), ('sum of parts', '#1f77b4', 'o')):
      tau = predictors[label][1]['tau']
      shown = f'{label}, τ {tau:.2f}'
      panel.scatter(predictors[label][0], measured, 18, color, marker=mark, label=shown)
    ends = [0, 1.08 * max(measured.max(), *(given.max() for given, _ in predictors.values()))]
    panel.plot(ends, ends, color='black', linewidth=0.8)
    panel.set(xlim=ends, ylim=ends, title=name, xlabel='predicted, ms', ylabel='measured, ms')
    panel.set_aspect('equal')
    panel.legend(frameon=False, loc='upper left')
  figure.savefig(path, dpi=120)


def make_arguments() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--runtime', default=','.join(exported.FORMATS), help='one, or several with commas')
  add('--threads', type=int, default=1)
  add('--networks', type=int, default=30)
  add('--copies', type=int, default=exported.COPIES, help='of a part in its file')
  add('--secs', type=float, default=60, help='to measure in, for each runtime')
  add('--picture', metavar='FILE.png', help='predicted against measured')
  return parser


def main():
  arguments, panels = make_arguments().parse_args(), {}
  jax.config.update('jax_platforms', 'cpu')
  networks, _ = search.make_networks(load_config(CONFIG).to_dict())
  drawn = draw(networks, arguments.networks)
  for name in arguments.runtime.split(','):
    runtime, began = exported.Runtime(name, arguments.threads), time.perf_counter()
    times, measured, call_ns = measure(networks, drawn, runtime, arguments.secs, arguments.copies)
    found = compare(networks, drawn, times, measured)
    print_table(name, found, measured, call_ns)
    about = {
      **{**runtime.about, 'networks': len(drawn), 'parts': len(times), 'copies': arguments.copies},
      **{'call_us': round(call_ns / 1e3, 1), 'secs': round(time.perf_counter() - began)},
      **{'load': round(os.getloadavg()[0], 1), **describe_machine(), **machine.describe()},
    }
    for predictor, (_, row) in found.items():
      print(json.dumps({'predictor': predictor, **row, **about}, ensure_ascii=False), flush=True)
    panels[name] = found, measured
  if arguments.picture:
    draw_picture(arguments.picture, panels)
    print('wrote', arguments.picture)


if __name__ == '__main__':
  main()
