"""One trial of a sweep: a network is held against the limits, trained and scored.

Worker processes run this, a trial after another. What a trial leaves lies in a folder named
by its network and recipe: a run as `movinet train` leaves it, and trial.json, its outcome.
A trial that is begun again, by whichever worker, goes on from there.
"""

import contextlib
import copy
import fcntl
import functools
import hashlib
import json
import math
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from flax import traverse_util

from launch import config as configs
from launch import devices, outcome, parts
from launch.verbs import train
from movinet_jax import cost, data
from movinet_jax.names import check_name, suggest
from movinet_jax.spec import to_json
from movinet_jax.train import evaluation, loop, writers
from movinet_jax.train.workdir import replace_file
from nas import runtime, spaces

TRIALS, LATENCY = 'trials', 'latency'
LIMITS = ('params', 'macs', 'latency_ns')
# Of the video that a network's stride counts frames of, where clips are taken by time.
NATIVE_FPS = {'movinet': 25, 'tvn': 25, 'x3d': 30}


class Pruned(Exception):
  """A trial was worse at a rung than its threshold there; `metrics` are of that step."""

  def __init__(self, reason: str, step: int, metrics: Mapping):
    super().__init__(reason)
    self.step, self.metrics = step, metrics


class Discarded(Exception):
  """A network is over a limit; `metrics` is what is known of it."""

  def __init__(self, reason: str, metrics: Mapping):
    super().__init__(reason)
    self.metrics = metrics


def make_objective(config: Mapping, folder: str) -> Callable:
  """What a worker does with each job; everything slow that jobs share is done here.

  Args:
    config: of the sweep.
    folder: workdir of the sweep.
  """
  devices.keep_to_cores()
  space = spaces.create(**config['space'])
  sources = open_sources(config)
  home = Path(folder)
  check_smallest(config, space, sources, home)

  def run(job: Mapping, report: Callable) -> dict:
    spec = space.decode(np.array(job['choices']))
    recipe = make_recipe(config, space.family, spec, job['train'])
    place = home / TRIALS / _check_key(job['key'])
    place.mkdir(parents=True, exist_ok=True)
    with _holding(place / 'lock'):
      if (place / 'trial.json').exists():
        return json.loads((place / 'trial.json').read_text())
      found = _run(config, recipe, sources, place, home, job['thresholds'], report)
      replace_file(place / 'trial.json', json.dumps(found, indent=2) + '\n')
    return found

  return run


def _check_key(key: str) -> str:
  """Raises a ValueError for what is no name of make_key's: it would be a path."""
  if not re.fullmatch('[0-9a-f]{16}', key):
    raise ValueError(f'the study gives a trial the key {key!r}, which no sweep does')
  return key


def _run(config, recipe, sources, place, home, thresholds, report) -> dict:
  model = parts.make_model(recipe['model'], len(sources['train'].labels))
  began = time.perf_counter()
  try:
    metrics = _measure(config, model, home)
    train.train(
      recipe,
      str(place),
      sources=sources,
      watch=functools.partial(_watch, config['fitness'], thresholds, report),
    )
    state, reason, last = 'done', '', {}
  except Discarded as error:
    return {'state': 'discarded', 'metrics': error.metrics, 'reason': str(error)}
  except (loop.Preempted, data.WorkerDied) as error:
    # No fault of the network: the coordinator sees a worker die, and tries it again.
    print(error, file=sys.stderr)
    raise SystemExit(os.EX_TEMPFAIL) from error
  except Pruned as error:
    state, reason, last = 'pruned', str(error), {error.step: error.metrics}
  rows = {**_read_evaluations(place), **last}
  curve = {step: _score(config['fitness'], row) for step, row in rows.items()}
  return {
    'state': state,
    'value': curve[max(curve)],
    'metrics': {**metrics, **rows[max(rows)], 'secs': time.perf_counter() - began},
    'reason': reason,
    'curve': curve,
  }


def make_key(config: Mapping, space, proposal) -> str:
  """Equal for trials that would train the same network in the same way."""
  spec = space.decode(proposal.choices)
  recipe = make_recipe(config, space.family, spec, proposal.train)
  rest = [list_settings(recipe), recipe['model'], recipe['clip']]
  text = json.dumps([rest, config['held_out'], config['fitness']], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def list_settings(recipe: Mapping) -> dict[str, object]:
  """What of a recipe results depend on, by key, beside network, size of clips and data."""
  flat = traverse_util.flatten_dict(dict(recipe), sep='.')
  own = {'model.name', 'model.spec', *train.FREE}
  clip = ('frames', 'size', 'stride', 'fps', 'short_side', 'stride_jitter')
  own |= {f'clip.{part}.{key}' for part in recipe['clip'] for key in clip}
  return {
    key: value
    for key, value in sorted(flat.items())
    if key not in own and not key.startswith(('data.', 'model.spec.'))
  }


def make_recipe(config: Mapping, family: str, spec, changes: Mapping) -> dict:
  """The training config of a network: the sweep's recipe, at the network's own clip.

  Args:
    changes: what the search itself changes in the recipe, by key.
  """
  recipe = load_recipe(config)
  section = {k: v for k, v in recipe['model'].items() if k not in ('name', 'spec')}
  recipe['model'] = {**section, 'name': family, 'spec': to_json(spec)}
  recipe['clip'] = {
    name: fit_clip(section, family, spec) for name, section in recipe['clip'].items()
  }
  for key, value in changes.items():
    _change(recipe, key, value)
  return recipe


def _change(recipe: dict, key: str, value):
  section, (*path, last) = recipe, key.split('.')
  if not path and last not in recipe:
    raise ValueError(f'the recipe has no {last!r} to change{suggest(last, recipe)}')
  for name in path:
    if not isinstance(section.get(name), dict):
      raise ValueError(f'the recipe has no {name!r} to change{suggest(name, section)}')
    section = section[name]
  section[last] = value


def load_recipe(config: Mapping) -> dict:
  """The training config that all trials begin with."""
  flat = traverse_util.flatten_dict(config['recipe'], sep='.')
  changes = [f'--config.{key}={value}' for key, value in flat.items()]
  changes += outcome.list_overrides(config)
  return copy.deepcopy(_load(config['train_with'], tuple(changes)))


@functools.cache
def _load(file, changes) -> dict:
  recipe = configs.load(file, changes).to_dict()
  # A bar for each of several runs side by side would help nobody.
  recipe['loop'] = {**recipe['loop'], 'progress': False}
  return {**train.DEFAULTS, **recipe}


def fit_clip(section: Mapping, family: str, spec) -> dict:
  """A recipe's clip with a network's own frames, size and stride."""
  fitted = {**section, 'frames': spec.frames, 'size': spec.resolution}
  if sides := section.get('short_side'):
    shares = np.atleast_1d(sides) / section['size']  # a range, to train with
    scaled = tuple(round(share * spec.resolution) for share in shares)
    fitted['short_side'] = scaled if len(scaled) > 1 else scaled[0]
  if 'fps' not in section and spec.frame_stride == int(spec.frame_stride):
    return {**fitted, 'stride': int(spec.frame_stride)}
  for key in ('stride', 'stride_jitter'):
    fitted.pop(key, None)
  return {**fitted, 'fps': NATIVE_FPS[family] / spec.frame_stride}


def open_sources(config: Mapping) -> dict[str, data.Source]:
  """What trials learn from, and what they are scored on: held out of the same split."""
  source = parts.open_sources({'train': config['data']['train']})['train']
  learnt, held_out = data.split_source(source, config['held_out'], seed=config['seed'])
  return {'train': learnt, 'eval': held_out}


def check_recipe(config: Mapping, space, sources: Mapping, changes: Mapping):
  """Builds what trains the network of all first choices, with changes of the search's.

  Returns:
    The network.

  Raises:
    ValueError: it cannot be built.
  """
  spec = space.decode(np.zeros(len(space.space), np.int32))
  recipe = make_recipe(config, space.family, spec, changes)
  return train.prepare(recipe, sources)[0].model


def check_smallest(config: Mapping, space, sources: Mapping, home: Path | None = None):
  """Finds before any training that a recipe or a limit fits no network of a space.

  Of spaces that know their smallest network; of others trials will tell.

  Args:
    home: workdir, where measured times are kept; without it nothing is measured, as by
      one who does not have the device.

  Raises:
    ValueError: the recipe cannot be built, or the smallest network is over a limit.
  """
  model = check_recipe(config, space, sources, {})
  for name in config['limits'] if hasattr(space, 'smallest') else ():
    if name == 'latency_ns' and home is None:
      continue
    # Hardly any network is faster than the one with the fewest multiply-adds.
    cost = 'params' if name == 'params' else 'macs'
    spec = space.decode(space.smallest(cost, model.num_classes))
    smallest = parts.make_model(
      make_recipe(config, space.family, spec, {})['model'], model.num_classes
    )
    alone = {**config, 'limits': {name: config['limits'][name]}}
    try:
      _measure(alone, smallest, home if name == 'latency_ns' else None)
    except Discarded as error:
      raise ValueError(
        f'no network of the space is within the limits: of the smallest, {error}'
      ) from error


def check_fitness(names, source: data.Source):
  """Raises a ValueError for a fitness that an evaluation of this data does not have."""
  known = evaluation.list_metrics(len(source.labels), source.multi_label)
  if not names:
    raise ValueError(f'fitness names no metric; there are: {", ".join(known)}')
  for name in names:
    check_name(name, known, 'metric of fitness')


def _measure(config: Mapping, model, home: Path | None) -> dict:
  """What a network costs: params and macs of a native clip, and its measured latency.

  Raises:
    Discarded: it is over a limit.
  """
  spec = model.spec
  shape = 1, spec.frames, spec.resolution, spec.resolution, 3
  counted = cost.count(model, shape)
  metrics = {'params': counted.params, 'macs': counted.macs}
  _check_limits(config['limits'], metrics)  # before anything is compiled for it
  if config['latency_repeats'] and home is not None:
    latency = _measure_latency(config, model, home)
    metrics |= {'latency_ns': latency.ns, 'latency_noise': latency.noise}
    _check_limits(config['limits'], metrics)
  return metrics


def _check_limits(limits: Mapping, metrics: Mapping):
  """Raises Discarded for a network that is over one of the limits."""
  for name, most in limits.items():
    if name in metrics and metrics[name] > most:
      reason = f'{name} is {metrics[name]:,}, at most {most:,.0f} are allowed'
      raise Discarded(reason, metrics)


def _measure_latency(config, model, home) -> runtime.Latency:
  """Measured once for each network and kind of device."""
  about = [devices.describe(), model.num_classes, to_json(model.spec)]
  digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
  path = home / LATENCY / f'{digest}.json'
  if path.exists():
    return runtime.Latency(**json.loads(path.read_text())['latency'])
  path.parent.mkdir(parents=True, exist_ok=True)
  # One at a time, that measurements at least do not disturb each other.
  with _holding(path.parent / f'lock-{socket.gethostname()}'):
    latency = runtime.measure_latency(
      model,
      repeats=config['latency_repeats'],
      most_ns=config['limits'].get('latency_ns'),
    )
  row = {'device': about[0], 'latency': latency._asdict(), 'spec': about[-1]}
  replace_file(path, json.dumps(row) + '\n')
  return latency


def _watch(fitness, thresholds, report, step: int, metrics: Mapping):
  value = _score(fitness, metrics)
  report(step, value)
  wanted = thresholds.get(str(step))
  if wanted is not None and value < wanted:
    reason = f'{value:.4f} at step {step}, where {wanted:.4f} was wanted to go on'
    raise Pruned(reason, step, metrics)


def _score(fitness, metrics: Mapping) -> float:
  found = [metrics[name] for name in fitness]
  return math.nan if None in found else sum(found)


def _read_evaluations(place: Path) -> dict[int, dict]:
  """Step -> metrics of every evaluation that a run has written down."""
  rows = {}
  for row in writers.read_rows(place):
    found = {k.removeprefix('eval/'): v for k, v in row.items() if k[:5] == 'eval/'}
    if found:
      rows[row['step']] = found
  return rows


@contextlib.contextmanager
def _holding(path: Path) -> Iterator[None]:
  """Nobody else trains in the same folder: a worker taken for dead may yet wake up."""
  with path.open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield
