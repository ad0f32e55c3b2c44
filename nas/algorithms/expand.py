"""X3D's expansion: one axis at a time, and each step doubles the cost.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR
2020, sections 3.3, 4.1 and A.3. A step trains one network for each axis, all of equal
cost, and keeps the most accurate. A target that a step has passed is met by contraction:
the axis expanded last is expanded by less. That is a side branch; the next step begins
from the network that was not contracted.
"""

import dataclasses
import functools
import itertools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple

import numpy as np

from movinet_jax import schema
from movinet_jax.schema import SOME, Count, Limit, Positive, Range, Rate
from nas.algorithms.arguments import FromSpace
from nas.history import Conclusion, Proposal, Signal, State, Trial
from nas.space import Space

TIME = ('frames', 'frame_stride')
# The axes that frames and their stride make together: by how much a clip gets longer
# when its frames double. Fast halves the stride, temporal takes three quarters of it.
DURATIONS = {'fast': 1.0, 'temporal': 1.5}

_IN_ORDER = Limit(
  lambda pairs: all(a[0] <= b[0] for a, b in itertools.pairwise(pairs)),
  'pairs (first step, changes to the training config) whose steps ascend',
)


class Network(NamedTuple):
  """A network to be tried.

  Attributes:
    choices: [D].
    cost: what it costs.
    step: of the expansion, 0 for the start.
    axis: which was expanded, '' for the start. Two axes that lead to one network share
      it: 'fast/temporal'.
    contracts: the target that it is contracted for, '' for the expansion itself.
  """

  choices: tuple[int, ...]
  cost: float
  step: int
  axis: str
  contracts: str = ''


@dataclasses.dataclass
class _Run:
  """What the trials so far have decided; all numbers are of `networks`.

  Attributes:
    networks: in the order of their trials.
    groups: (first, end) of each step's candidates, of which one is accepted.
    path: the accepted ones.
    targets: which network stands for a target, of those decided.
    ended: why there is no further step.
  """

  networks: list[Network]
  groups: list[tuple[int, int]]
  path: list[int] = dataclasses.field(default_factory=list)
  targets: dict[str, int] = dataclasses.field(default_factory=dict)
  ended: str | None = None


@dataclasses.dataclass(frozen=True)
class Expand:
  """The expansion of a network along the decisions of a space.

  Each decision is an axis whose choices are the values that it can have, ascending. But
  `frames` and `frame_stride` make the axes `fast` (more frames of as long a clip) and
  `temporal` (of one 1.5 times as long). The stride of a single frame means nothing:
  from there both axes lead to the same clip, with the stride that the start has.

  On each axis the candidate is the value whose cost is nearest to `growth` times the
  present one; of values with equal cost, which rounding makes one network, the largest.
  An axis on which even that is nearer to no step or to two than to one, because its
  values end or are too few, is left out of the step, and so is `fast` where strides end.
  Strides go to the nearest value, halves up.

  Attributes:
    space: flat, of numbers.
    cost: of a vector [D], such as its multiply-adds.
    targets: costs by name. A network within `tolerance` of one meets it. Where the
      largest that is not above is below that, it stands for the target, which is missed.
      The search ends when all are decided.
    start: values by decision; others begin at their first.
    growth: what a step multiplies the cost by. X3D: 2.
    tolerance: relative, to both sides. Any from 0.105 to 0.207 makes of the paper's
      regimes (0.6, 2, 5, 20, 40, 150 GMACs) its networks: XL is 10.4 % below its own and
      not expanded further, step 7 is 20.8 % above S and contracted.
    repeats: trials of each network, that differ in `seed`; their mean counts. A network
      of which none was trained to the end is left out.
    schedule: (first step, changes to the training config from there on), ascending: X3D
      regularises more as networks grow.

  Raises:
    ValueError: an argument does not fit, or a target is below what the start costs.
  """

  sections: ClassVar[tuple[str, ...]] = ('expansion',)  # of nas.report

  space: Annotated[Space, FromSpace('space')]
  cost: Annotated[Callable[[np.ndarray], float], FromSpace('macs')]
  _: dataclasses.KW_ONLY
  targets: Annotated[Mapping[str, Positive], SOME]
  start: Mapping[str, float] = dataclasses.field(default_factory=dict)
  growth: Annotated[float, Range(above=1)] = 2.0
  tolerance: Rate = 0.15
  repeats: Count = 1
  schedule: Annotated[tuple[tuple[int, Mapping], ...], _IN_ORDER] = ()

  def __post_init__(self):
    _check_axes(self.space)
    schema.verify(self)
    first = self._begin()
    if not first.cost > 0:
      raise ValueError(f'the start costs {first.cost}, wanted more than 0: what is doubled?')
    for name, target in self.targets.items():
      if first.cost > target * (1 + self.tolerance):
        raise ValueError(
          f'the target {name!r} is {target:,g}, but the network that the expansion '
          f'starts from costs {first.cost:,g} already: start smaller or take a larger '
          'target'
        )

  def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal | Signal:
    """Trial len(history); nothing in it is random.

    Raises:
      ValueError: the trials are not those that this expansion makes.
    """
    del rng
    run = self._replay(history)
    if len(history) < len(run.networks) * self.repeats:
      number, repeat = divmod(len(history), self.repeats)
      return self._make_proposal(run.networks[number], repeat)
    done = all(trial.finished for trial in history)
    return Signal.STOP if run.ended and done else Signal.WAIT

  def conclude(self, history: Sequence[Trial]) -> Conclusion:
    """Networks of the targets, best first, and how the accepted steps led there.

    A target that is missed has its network, the largest that is not above, and says so.
    """
    run = self._replay(history)
    met = {n for n in run.targets.values() if self._score(history, n) is not None}
    best = sorted(met or run.path[-1:], key=lambda n: (-self._score(history, n), n))
    return Conclusion(
      best=tuple(self._find_best(history, n).number for n in best),
      path=tuple(self._find_best(history, n).number for n in run.path),
      facts={
        'steps': [
          {
            **self._describe(history, run.networks, number),
            'candidates': [self._describe(history, run.networks, n) for n in range(*group)],
          }
          for number, group in zip(run.path, run.groups, strict=False)
        ],
        'targets': {
          name: {
            'target': self.targets[name],
            'tolerance': self.tolerance,
            'contracted': bool(run.networks[number].contracts),
            'met': self._meets(name, run.networks[number]),
            **self._describe(history, run.networks, number),
          }
          for name, number in run.targets.items()
        },
        'ended': run.ended,
      },
    )

  def expand(self, network: Network) -> tuple[Network, ...]:
    """The candidates of the next step, one for each axis that can be expanded."""
    if network.choices not in self._known:
      found = {}
      for axis in self.axes:
        nearest = self._find_nearest(network, axis)
        if nearest:
          found.setdefault(nearest, []).append(axis)
      self._known[network.choices] = tuple(
        (choices, cost, '/'.join(axes)) for (choices, cost), axes in found.items()
      )
    return tuple(
      Network(choices, cost, network.step + 1, axis)
      for choices, cost, axis in self._known[network.choices]
    )

  def contract(self, before: Network, network: Network, name: str) -> Network | None:
    """The largest network within a target between one step and the next; None: none is.

    Of time it shortens the clip by frames, and the stride makes it last as long.
    """
    number, axis = self._decision(network.axis), network.axis.partition('/')[0]
    for value in reversed(range(before.choices[number] + 1, network.choices[number])):
      choices = self._resize(network.choices, axis, value, 1.0)
      cost = self.cost(np.array(choices, np.int32))
      if cost <= self.targets[name]:
        return network._replace(choices=choices, cost=cost, contracts=name)
    return None

  @functools.cached_property
  def axes(self) -> tuple[str, ...]:
    paths = [decision.path for decision in self.space.decisions]
    if not set(TIME) <= set(paths):
      return tuple(paths)
    return *DURATIONS, *(path for path in paths if path not in TIME)

  @functools.cached_property
  def _known(self) -> dict:
    """Candidates of what was expanded before: costs are counted once."""
    return {}

  def _begin(self) -> Network:
    chosen = {}
    for path, value in self.start.items():
      values = self.space.values[self.space.number(path)]
      if value not in values:
        raise ValueError(f'start is {value!r} for {path}, whose values are {_shorten(values)}')
      chosen[path] = values.index(value)
    choices = tuple(self.space.encode(chosen).tolist())
    return Network(choices, self.cost(np.array(choices, np.int32)), 0, '')

  def _decision(self, axis: str) -> int:
    """The number of the decision that expands an axis."""
    axis = axis.partition('/')[0]
    return self.space.number('frames' if axis in self._times else axis)

  @functools.cached_property
  def _times(self) -> tuple[str, ...]:
    return tuple(axis for axis in self.axes if axis in DURATIONS)

  def _find_nearest(self, network: Network, axis: str):
    """(choices, cost) of the axis's candidate, None if it has none."""
    number, wanted = self._decision(axis), self.growth * network.cost
    found = []
    for value in range(network.choices[number] + 1, int(self.space.sizes[number])):
      choices = self._resize(network.choices, axis, value, DURATIONS.get(axis, 1.0))
      cost = self.cost(np.array(choices, np.int32))
      found.append((abs(cost - wanted), cost, -value, choices))
    if not found:
      return None
    _, cost, _, choices = min(found)
    steps = math.log(cost / network.cost, self.growth)
    slows = axis == 'fast' and not self._is_faster(network.choices, choices)
    return None if slows or not 0.5 < steps < 1.5 else (choices, cost)

  def _is_faster(self, before, choices) -> bool:
    frames, stride = map(self.space.number, TIME)
    single = self.space.values[frames][before[frames]] == 1
    return single or choices[stride] < before[stride]

  def _resize(self, choices, axis: str, value: int, duration: float):
    """Choices with another value on an axis; clips become `duration` times as long."""
    changed = list(choices)
    changed[self._decision(axis)] = value
    if axis in self._times:
      frames, stride = map(self.space.number, TIME)
      counts, strides = self.space.values[frames], self.space.values[stride]
      before = counts[choices[frames]]
      if before > 1:
        wanted = duration * strides[choices[stride]] * before / counts[value]
        changed[stride] = _find_value(strides, wanted)
    return tuple(changed)

  def _replay(self, history) -> _Run:
    """Decides step after step, as far as trials have ended."""
    run = _Run([self._begin()], [(0, 1)])
    while True:
      first, end = run.groups[-1]
      trials = history[first * self.repeats : end * self.repeats]
      if len(trials) < (end - first) * self.repeats or not all(trial.finished for trial in trials):
        break
      self._accept(run, history)
      if run.ended:
        break
      candidates = self.expand(run.networks[run.path[-1]])
      if not candidates:
        run.ended = 'no axis can be expanded further'
        break
      run.groups.append((len(run.networks), len(run.networks) + len(candidates)))
      run.networks.extend(candidates)
    self._check_history(run, history)
    return run

  def _accept(self, run: _Run, history):
    """Takes the best candidate of the last step, and decides what targets it meets."""
    scores = {n: self._score(history, n) for n in range(*run.groups[-1])}
    scores = {n: score for n, score in scores.items() if score is not None}
    if not scores:
      first, end = run.groups[-1]
      trials = history[first * self.repeats : end * self.repeats]
      reasons = sorted({f'{t.state}: {t.reason or "no reason given"}' for t in trials})
      run.ended = (
        f'no network of step {run.networks[first].step} was trained to its end '
        f'({"; ".join(reasons)})'
      )
      return
    run.path.append(max(scores, key=lambda n: (scores[n], -n)))
    for name in sorted(set(self.targets) - set(run.targets), key=self.targets.get):
      self._meet(run, name)
    if set(run.targets) == set(self.targets):
      run.ended = self._say_met(run)

  def _meet(self, run: _Run, name: str):
    """Decides a target if the path has reached it."""
    network = run.networks[run.path[-1]]
    if self._meets(name, network):
      run.targets[name] = run.path[-1]
      return
    if network.cost < self.targets[name]:
      return
    before = run.path[-2]
    contracted = self.contract(run.networks[before], network, name)
    if contracted is None:
      run.targets[name] = before
      return
    run.targets[name] = len(run.networks)
    run.networks.append(contracted)

  def _meets(self, name: str, network: Network) -> bool:
    least, most = ((1 + side * self.tolerance) * self.targets[name] for side in (-1, 1))
    return least <= network.cost <= most

  def _say_met(self, run: _Run) -> str:
    """Whether all targets are met, or of what cost the missed ones' networks are."""
    missed = [
      f'{name} wanted {self.targets[name]:,g} and got {run.networks[number].cost:,g}'
      for name, number in run.targets.items()
      if not self._meets(name, run.networks[number])
    ]
    if not missed:
      return 'all targets are met'
    within = f'within {100 * self.tolerance:g} %'
    return f'all targets are decided, but not all are met {within}: {"; ".join(missed)}'

  def _score(self, history, number: int) -> float | None:
    """Mean of a network's trials, None if none was trained to the end.

    A pruned one counts with what it had reached: without it, a network whose poor
    repeats were pruned would look better.
    """
    if not self._list_trials(history, number):
      return None
    trials = self._list_trials(history, number, (State.DONE, State.PRUNED))
    values = [trial.value for trial in trials if trial.value is not None]
    return sum(values) / len(values)

  def _find_best(self, history, number: int) -> Trial:
    trials = self._list_trials(history, number)
    return max(trials, key=lambda trial: (trial.value, -trial.number))

  def _list_trials(self, history, number: int, states=(State.DONE,)) -> list[Trial]:
    trials = history[number * self.repeats : (number + 1) * self.repeats]
    return [trial for trial in trials if trial.state in states]

  def _make_proposal(self, network: Network, repeat: int) -> Proposal:
    note = {'step': network.step, 'axis': network.axis, 'repeat': repeat}
    if network.contracts:
      note['contracts'] = network.contracts
    train = {}
    for first, changes in self.schedule:
      if network.step >= first:
        train |= changes
    if self.repeats > 1:
      train['seed'] = repeat
    return Proposal(np.array(network.choices, np.int32), note, train)

  def _check_history(self, run: _Run, history):
    most = len(run.networks) * self.repeats
    for trial in history:
      wanted = None
      if trial.number < most:
        wanted = run.networks[trial.number // self.repeats].choices
      if wanted is None or tuple(np.asarray(trial.choices).tolist()) != wanted:
        raise ValueError(
          f'trial {trial.number} has choices {list(trial.choices)}, where this '
          f'expansion has {"no trial" if wanted is None else list(wanted)}: the study was '
          'made with other settings; go on with those, or begin another study'
        )

  def _describe(self, history, networks, number: int) -> dict:
    network = networks[number]
    done = self._list_trials(history, number)
    return {
      'step': network.step,
      'axis': network.axis,
      'cost': network.cost,
      'factors': self.space.describe(network.choices),
      'value': self._score(history, number),
      'trials': [trial.number for trial in done],
    }


def _check_axes(space: Space):
  if not len(space):
    raise ValueError('the space has no decisions: there is nothing to expand')
  for decision, values in zip(space.decisions, space.values, strict=True):
    numeric = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values)
    if decision.needs or not numeric or list(values) != sorted(values):
      raise ValueError(
        f'{decision.path} chooses among {_shorten(values)}: an expansion needs a flat '
        'space whose decisions are between numbers that ascend'
      )


def _shorten(values) -> str:
  if len(values) <= 6:
    return ', '.join(map(str, values))
  return f'{", ".join(map(str, values[:3]))}, … {values[-1]}'


def _find_value(values: Sequence[float], wanted: float) -> int:
  """The number of the nearest value; of two equally near the larger."""
  return min(range(len(values)), key=lambda i: (abs(values[i] - wanted), -values[i]))
