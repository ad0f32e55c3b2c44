"""A search as its config says: what is searched, for what, and how.

Everything is built, and with it checked, that can be without reading a video or compiling a
program.
"""

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from launch import config as configs
from launch import parts
from movinet_jax import data, models
from movinet_jax.names import check_name
from movinet_jax.train import losses, mesh, optimizers, steps
from nas import finalists, oneshot, runtime
from nas.cost import TITLES, CostTable
from nas.objective import Objective
from nas.space import Space
from nas.spaces import movinet as space_of
from nas.supernet import Supernet

NEEDED = (
  *('seed', 'batch_size', 'policy_batch_size', 'candidates', 'policy_share', 'space'),
  *('search.target', 'train_with', 'data.train', 'clip', 'loader', 'loss.name'),
  'loop.total_steps',
)
SIZES = ('batch_size', 'policy_batch_size', 'candidates')
LATE = {
  'loader': ('workers', 'threads', 'max_failed_share'),
  'loop': ('total_steps', 'log_every', 'save_every', 'progress'),
  'checkpoints': ('keep',),
}
DEFAULTS = {'supernet': {}, 'optimizer': {}, 'checkpoints': {}, 'finalists': {}}
# Keys of `search` that are no numbers of a search, but what its step is compiled for.
_OBJECTIVE, _STEP = ('cost', 'latency', 'reward'), ('subclips', 'boundary')


@dataclasses.dataclass(frozen=True)
class Plan:
  """A search before any data.

  Attributes:
    net: the supernet.
    costs: of its networks, by name.
    aim: the name of the cost that has a target.
    objective: what is maximised.
    settings: the numbers of this search, see oneshot.SETTINGS.
    step: of the search, for the loop.
    place: the mesh of devices.
    clip: what is learnt from.
    limits: of the comparison at the end.
    latency: what measured times are of, and a digest of them; {} without.
  """

  net: Supernet
  costs: Mapping[str, CostTable]
  aim: str
  objective: Objective
  settings: Mapping
  step: Callable
  place: object
  clip: data.TrainClip
  limits: finalists.Limits
  latency: Mapping

  @property
  def space(self) -> Space:
    return self.net.space.space


def make_plan(cfg: Mapping, num_classes: int, devices=None) -> Plan:
  """Builds a search.

  Args:
    cfg: a whole config with DEFAULTS, which `check_config` has passed.
    devices: to search on; by default all there are.

  Raises:
    ValueError: for the first thing in it that is wrong.
  """
  for key in ('batch_size', 'policy_batch_size'):
    if cfg[key] % cfg['candidates']:
      raise ValueError(
        f'{key} is {cfg[key]}, which {cfg["candidates"]} candidates cannot share: take a multiple'
      )
  configs.load(cfg['train_with'])
  limits = parts.call(finalists.Limits, cfg['finalists'])
  clip = parts.call(data.TrainClip, cfg['clip'])
  space = parts.call(space_of.make_space, cfg['space'])
  given = dict(cfg['search'])
  options = {key: given.pop(key) for key in _STEP if key in given}
  aims = {key: given.pop(key) for key in _OBJECTIVE if key in given}
  settings = _make_settings(cfg, space, given)
  _check_subclips(clip, space, **options)
  measured, latency = _read_latency(space, num_classes, aims.pop('latency', ''))
  costs = {**_make_costs(space, num_classes), **measured}
  aim = aims.pop('cost', 'macs')
  # With a weight of 0 too, so that a study of weights compiles once.
  memory = costs['state_bytes'] if 'memory_beta' in given else None
  objective = Objective(_find_cost(costs, aim), memory=memory, **aims)
  _check_target('search.target', given['target'], aim, objective.cost)
  if memory:
    _check_memory(given, space, memory)
  elif 'memory_target' in given:
    raise ValueError('search.memory_target does nothing without search.memory_beta')
  net = _make_supernet(cfg['supernet'], space, num_classes)
  # As the step will; here for what the config says of it.
  ours = {'schedule': lambda step: 0.0, 'weight_decay': 0.0}
  parts.call(optimizers.make_chain, cfg['optimizer'], **ours)
  place = mesh.make_mesh(devices)
  step = oneshot.make_search_step(
    net,
    objective,
    parts.call(losses.make_loss, cfg['loss']),
    place,
    candidates=cfg['candidates'],
    optimizer=cfg['optimizer'],
    **options,
  )
  return Plan(net, costs, aim, objective, settings, step, place, clip, limits, latency)


def _make_settings(cfg, space, given):
  ours = {'seed': cfg['seed'], 'total_steps': cfg['loop']['total_steps']}
  for key, where in (('seed', 'seed'), ('total_steps', 'loop.total_steps')):
    if key in given:
      raise ValueError(f'search.{key} is not a key: {where} says it')
  return oneshot.make_settings(space.space, **given, **ours)


def _check_subclips(clip, space, subclips: int = 1, boundary: str = 'exact'):
  if type(subclips) is not int:
    raise ValueError(f'search.subclips is {subclips!r}, wanted a whole number')
  steps.check_subclips(subclips, boundary, clip.frames)
  if subclips > 1 and not space.base.causal:
    raise ValueError(
      f'search.subclips is {subclips}, but networks of this space take whole clips only: '
      'set space.causal=True, or subclips=1'
    )


def _make_costs(space, num_classes: int) -> dict[str, CostTable]:
  """Costs by name: of the networks' native clip, whatever clips the search can afford."""
  make = functools.partial(space_of.make_cost_table, space, num_classes=num_classes)
  return {kind: make(kind) for kind in ('macs', 'params', 'state_bytes')}


def _read_latency(space, num_classes: int, path: str) -> tuple[dict, dict]:
  """The cost that a file of times makes, and whence it is: both empty without a file."""
  if not path:
    return {}, {}
  about, known = runtime.read_times(Path(path))
  _check_times(path, about, space, num_classes)
  times = space_of.find_times(space, known)
  table = space_of.make_cost_table(space, 'latency_ns', num_classes=num_classes, times=times)
  written = json.dumps({str(part): ns for part, ns in times.items()}).encode()
  digest = hashlib.sha256(written).hexdigest()[:16]
  return {'latency_ns': table}, {'about': about, 'digest': digest}


def _check_times(path, about, space, num_classes):
  """Raises a ValueError if measured times are of other networks."""
  bench = space_of.Bench(space, num_classes, batch=1, frames=1)
  for key in ('networks', 'num_classes'):
    was, now = about.get(key), json.loads(json.dumps(bench.about()[key]))
    if was != now:
      raise ValueError(f'{path} has times of other networks: {key} was {was}, is now {now}')


def _find_cost(costs: Mapping[str, CostTable], name: str) -> CostTable:
  check_name(name, TITLES, 'cost')
  if name not in costs:
    raise ValueError(
      f'search.cost is {name}, which needs search.latency: a file of `movinet latency`'
    )
  return costs[name]


def _check_target(key, target, name, cost):
  least, most = cost.bounds
  if not least <= target <= most:
    raise ValueError(
      f'{key} is {target:g} {name}, but networks of this space have {least:,} to {most:,}: '
      'choose a target between, or another space'
    )


def _check_memory(settings, space, memory):
  if not space.base.causal:
    raise ValueError(
      'search.memory_beta presses on stream state, which networks of this space do not '
      'have: set space.causal=True, or leave memory_beta out'
    )
  if 'memory_target' not in settings:
    raise ValueError(
      'search.memory_beta needs search.memory_target, bytes of stream state: networks of '
      'this space have {:,} to {:,}'.format(*memory.bounds)
    )
  _check_target('search.memory_target', settings['memory_target'], 'state_bytes', memory)


def _make_supernet(section, space, num_classes) -> Supernet:
  section = dict(section)
  if 'dtype' in section:
    section['dtype'] = models.find_dtype(section['dtype'])
  return parts.call(Supernet, section, space=space, num_classes=num_classes)


def warn_of_target(plan: Plan):
  """Says so where few random networks are near the target."""
  space, target = plan.space, float(plan.settings['target'])
  rng = np.random.default_rng(0)
  drawn = plan.objective.cost.count(rng.integers(space.sizes, size=(2000, len(space))))
  if abs(target - drawn.mean()) > 3 * drawn.std():
    print(
      f'Note: search.target is {target:g} {plan.aim}, where 2,000 random networks have '
      f'{drawn.mean():.3g} with a standard deviation of {drawn.std():.2g}: at first the '
      'search will rarely see networks of that cost',
      file=sys.stderr,
    )
