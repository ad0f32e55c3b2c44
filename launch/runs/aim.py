"""The aim of a one-shot search: the cost with a target, how it is counted, and the reward."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from movinet_jax import schema
from movinet_jax.names import check_name
from movinet_jax.schema import Count, LocalPath
from movinet_jax.train import steps
from nas import oneshot, runtime
from nas.cost import TITLES, CostTable
from nas.objective import Objective


@dataclasses.dataclass(frozen=True)
class Aim:
  """The aim of a search: the keys of `search` that are not settings of its algorithm.

  Attributes:
    cost: the name of the cost that has a target.
    latency: file of measured times, for the cost latency_ns.
    reward: form of the objective.
    algorithm: name of the one-shot algorithm.
    subclips, boundary: run clips in parts through stream buffers, see train/steps.py.
  """

  cost: str = 'macs'
  latency: LocalPath = ''
  reward: str = 'absolute'
  algorithm: str = 'reinforce'
  subclips: Count = 1
  boundary: steps.Boundary = 'exact'


def split_aim(section: Mapping) -> tuple[Aim, dict]:
  """The aim of a `search` section, and what it leaves to the algorithm."""
  own = {field.name for field in dataclasses.fields(Aim)}
  given = {key: value for key, value in section.items() if key not in own}
  if 'target' not in given:
    raise ValueError('the config lacks search.target, the cost that networks should have')
  return schema.build(Aim, {k: v for k, v in section.items() if k in own}, 'search'), given


def make_objective(
  aim: Aim, given: Mapping, networks, costs: Mapping[str, CostTable], held=None
) -> Objective:
  """The rewards of a search.

  Args:
    given: settings of the search.
    networks: the space of networks.
    costs: by name.
    held: choices [D] of decisions that are not searched, -1 for the others; None: all are.

  Raises:
    ValueError: a target that no network has, or a weight without its target.
  """
  # With a weight of 0 too, so that a study of weights compiles once.
  memory = costs['state_bytes'] if 'memory_beta' in given else None
  objective = Objective(costs[aim.cost], memory=memory, reward=aim.reward)
  _check_target('search.target', given['target'], aim.cost, objective.cost.hold(held))
  _check_memory(given, networks, memory and memory.hold(held))
  return objective


def check_subclips(aim: Aim, frames: int, networks):
  """Raises a ValueError for sub-clips that clips or networks do not allow."""
  steps.count_frames(frames, aim.subclips)
  if aim.subclips > 1 and not networks.causal:
    raise ValueError(
      f'search.subclips is {aim.subclips}, but networks of this space take whole clips only: '
      f'{_advise(networks)}subclips=1'
    )


def _advise(networks) -> str:
  """How to get networks with stream buffers, if this space may have such."""
  fields = [field.name for field in dataclasses.fields(networks)]
  return 'set space.causal=True, or ' if 'causal' in fields else ''


def make_costs(aim: Aim, net: oneshot.Supernet) -> tuple[dict[str, CostTable], dict]:
  """Costs by name, of the networks' native clip, whatever clips the search can afford.

  Returns:
    the costs, and what measured times are of: {} without a file of them.

  Raises:
    ValueError: there is no such cost, or times of other networks.
  """
  check_name(aim.cost, TITLES, 'cost')
  costs = {kind: net.make_cost_table(kind) for kind in ('macs', 'params', 'state_bytes')}
  if not aim.latency:
    if aim.cost not in costs:
      raise ValueError(
        f'search.cost is {aim.cost}, which needs search.latency: a file of `movinet latency`'
      )
    return costs, {}
  try:
    about, known = runtime.read_times(Path(aim.latency))
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'search.latency is {aim.latency!r}, and there is no such file: `movinet latency` writes one'
    ) from error
  _check_times(aim.latency, about, net)
  times = net.space.find_times(known)
  costs['latency_ns'] = net.make_cost_table('latency_ns', times=times)
  written = json.dumps({str(part): ns for part, ns in times.items()}).encode()
  return costs, {'about': about, 'digest': hashlib.sha256(written).hexdigest()[:16]}


def check_complete(path: str | None, latency: Mapping):
  """Raises a ValueError for measured times that do not say what they were measured on.

  A search that began with such times, of an earlier version, goes on with them.

  Args:
    path: file of the times.
    latency: see `make_costs`; {} without times.
  """
  if latency and 'jaxlib' not in latency['about']:
    raise ValueError(runtime.explain_old(path))


def _check_times(path: str, about: Mapping, net: oneshot.Supernet):
  """Raises a ValueError if measured times are of other networks."""
  if not hasattr(net.space, 'make_bench'):
    raise ValueError(f'{type(net.space).__name__} does not say which of its parts to time')
  bench = net.space.make_bench(net.num_classes, frames=1)
  for key in ('networks', 'num_classes'):
    was, now = about.get(key), json.loads(json.dumps(bench.about()[key]))
    if was != now:
      raise ValueError(f'{path} has times of other networks: {key} was {was}, is now {now}')


def _check_target(key: str, target: float, name: str, cost: CostTable):
  least, most = cost.bounds
  if not least <= target <= most:
    raise ValueError(
      f'{key} is {target:g} {name}, but networks of this space have {least:,} to {most:,}: '
      'choose a target between, or another space'
    )


def _check_memory(given: Mapping, networks, memory: CostTable | None):
  if memory is None:
    if 'memory_target' in given:
      raise ValueError('search.memory_target does nothing without search.memory_beta')
    return
  if not networks.causal:
    raise ValueError(
      'search.memory_beta presses on stream state, which networks of this space do not '
      f'have: {_advise(networks)}leave memory_beta out'
    )
  if 'memory_target' not in given:
    raise ValueError(
      'search.memory_beta needs search.memory_target, bytes of stream state: networks of '
      'this space have {:,} to {:,}'.format(*memory.bounds)
    )
  _check_target('search.memory_target', given['memory_target'], 'state_bytes', memory)
