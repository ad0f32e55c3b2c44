"""How soon do searches find the best of problems in which that is known?

    python -m benchmarks.regret [PICTURE.svg] [--seeds=20] [--trials=300]

Of tables with 46,656 architectures each (tests/nas/algorithms/tabular.py), in half a
minute. Prints a JSON line for each search: regret, the accuracy that what it has found is
short of the best within the limit, in percentage points, after some numbers of trials:
mean over the tables and its 95 % interval, and that of the difference to random search.
The picture shows medians, and between which values the middle half of the tables is.

The expansion ends when it is as large as the limit, the φ search when all coefficients are
tried; from there on their lines are flat. A φ search looks for coefficients, not for a
network: what it trains are three small ones, scaled in as many ways.
"""

import argparse
import json
import time

import numpy as np

from tests.nas.algorithms import searches

SEARCHES = {
  'evolution': searches.make_evolution,
  'X3D expansion': searches.make_expansion,
  'φ search': searches.make_scaling,
  'random': searches.make_random,
}
# Told apart by the colour-blind.
COLOURS = {
  'evolution': '#1b7837',
  'X3D expansion': '#d95f02',
  'φ search': '#7570b3',
  'random': '#444444',
}


def main():
  args = _read_arguments()
  curves, secs = {}, {}
  for name, make in SEARCHES.items():
    began = time.perf_counter()
    curves[name] = 100 * searches.find_regrets(make, args.seeds, args.trials)
    secs[name] = round(time.perf_counter() - began, 1)
  for name in curves:
    row = {'benchmark': 'regret', 'search': name, **describe(curves, name)}
    print(json.dumps({**row, 'secs': secs[name]}, ensure_ascii=False))
  if args.picture:
    draw(args.picture, curves)


def _read_arguments():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('picture', nargs='?', help='a file to be drawn: .svg, .png, .pdf')
  parser.add_argument('--seeds', type=int, default=20, help='tables')
  parser.add_argument('--trials', type=int, default=300, help='of each search')
  args = parser.parse_args()
  if args.seeds < 2:
    parser.error(f'seeds is {args.seeds}, wanted at least 2: an interval needs them')
  return args


def describe(curves, name: str) -> dict:
  """Percentage points by number of trials."""
  regrets, others = curves[name], curves['random']
  tables, trials = regrets.shape
  at = sorted({n for n in (25, 50, 100, 200) if n < trials} | {trials})
  found = {'tables': tables}
  found['regret'] = {n: summarise(regrets[:, n - 1]) for n in at}
  if name != 'random':
    more = regrets - others
    found['more_than_random'] = {n: summarise(more[:, n - 1]) for n in at}
  return found


def summarise(values) -> dict:
  low, high = searches.find_interval(values)
  return {
    name: round(float(value), 2)
    for name, value in (('mean', values.mean()), ('low', low), ('high', high))
  }


def draw(path: str, curves):
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7, 4), layout='constrained')
  for name, regrets in curves.items():
    colour = COLOURS[name]
    trials = np.arange(1, regrets.shape[1] + 1)
    low, middle, high = np.quantile(regrets, (0.25, 0.5, 0.75), axis=0)
    axes.fill_between(trials, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(trials, middle, color=colour, label=name)
  # The first few trials are of no interest, and far above.
  axes.set(xlim=(1, trials[-1]), ylim=(0, 8), xlabel='trials')
  axes.set_ylabel('regret, percentage points')
  axes.spines[['top', 'right']].set_visible(False)
  axes.legend(frameon=False)
  figure.savefig(path, dpi=150)
  pyplot.close(figure)


if __name__ == '__main__':
  main()
