"""The search for MoViNet's scaling coefficients: which to try, and networks of each.

Kondratyuk et al., CVPR 2021, supplement A.1: α, β, γ and δ multiply depth, width,
resolution and frame rate, such that α β² γ² δ ≈ 4. That is held against what the rounded
spaces' networks cost, which is less than the formula says: depthwise kernels grow with
the width and not its square, and the first layer of a block does not grow with depth.
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import numbers
import typing
from collections.abc import Mapping, Sequence

import numpy as np

from movinet_jax.models import movinet
from movinet_jax.names import check_name
from movinet_jax.spec import to_json
from nas.algorithms.scale import Candidate
from nas.space import OneOf, Space
from nas.spaces.movinet import arguments
from nas.spaces.movinet.cost import make_cost_table
from nas.spaces.movinet.space import PUBLISHED, Coefficients, MovinetSpace
from nas.spaces.movinet.space import make_space as make_movinet_space

AXES = Coefficients._fields
GRID = tuple(round(1.05 + 0.05 * i, 2) for i in range(8))
# Factors of one axis alone, of which the one that costs nearest to the target is taken.
ALONE = tuple(round(1.05 + 0.05 * i, 2) for i in range(160))


@dataclasses.dataclass(frozen=True)
class ScalingSpace:
  """Networks sampled from MoViNet's space, scaled by coefficients.

  Attributes:
    base: arguments of movinet.make_space at φ = 0.
    values: that each coefficient may have.
    phis: φ that may be trained.
    samples: networks for each set of coefficients.
    seed: of those.
    num_classes: N, of which the classifier's multiply-adds are counted.
    candidates: coefficients that meet the constraint.
    baselines: others to compare with, by name.
  """

  base: Mapping
  values: Mapping[str, tuple[float, ...]]
  phis: tuple[float, ...]
  samples: int
  seed: int
  num_classes: int
  candidates: tuple[Candidate, ...]
  baselines: Mapping[str, Candidate]

  family: typing.ClassVar[str] = 'movinet'

  @functools.cached_property
  def space(self) -> Space:
    tree = {axis: OneOf(values) for axis, values in self.values.items()}
    return Space({**tree, 'sample': OneOf(tuple(range(self.samples))), 'phi': OneOf(self.phis)})

  def decode(self, choices) -> movinet.Spec:
    """A network of the scaled space, every decision uniform; always the same one."""
    chosen = self.space.decode(choices)
    sample, phi = chosen.pop('sample'), chosen.pop('phi')
    return self.sample(chosen, phi, sample)

  def sample(self, coefficients: Mapping[str, float], phi: float, number: int):
    """The Spec of a network that coefficients scale; they need not be in the space.

    Networks of one number are alike, whatever scales them: a decision takes the same
    place among its choices. What differs between them is then the coefficients' doing.
    """
    scaled = self.scale(coefficients, phi)
    places = (
      np.random.default_rng((self.seed, number, *decision.path.encode())).random()
      for decision in scaled.space.decisions
    )
    sizes = scaled.space.sizes
    choices = [int(x * size) for x, size in zip(places, sizes, strict=True)]
    return scaled.decode(np.array(choices, np.int32))

  def scale(self, coefficients: Mapping[str, float], phi: float) -> MovinetSpace:
    return scale(self.base, coefficients, phi)

  def describe_scaled(self, coefficients: Mapping[str, float], phi: float) -> str:
    """The space that coefficients scale, and networks of it, to be printed.

    Each network is a line, which `movinet train --spec` takes as a file.

    Raises:
      ValueError: coefficients or φ do not fit.
    """
    sizes = dict.fromkeys((0.0, float(arguments.check_phi(phi))))
    rows = list_scaled(coefficients, tuple(sizes), self.base, self.num_classes)
    found = rows[-1]
    growth = found.stretch_macs / rows[0].stretch_macs
    named = ', '.join(f'{axis} {coefficients[axis]:g}' for axis in AXES)
    lines = [
      f'φ = {phi:g}, of {named}:',
      f'  clip      {found.frames} frames of {found.resolution} x {found.resolution}, one in '
      f'{found.frame_stride} of the video',
      f'  layers    up to {found.depth} in each block',
      f'  stem      {_join(found.stems)}',
      *(f'  block {i}   {_join(widths)}' for i, widths in enumerate(found.widths)),
      f'  project   {_join(found.projects)}',
      f'  cost      {found.mean_macs / 1e9:,.3f} billion multiply-adds on average, '
      f'{found.frame_macs / 1e6:,.1f} million a frame;',
      f'            a second of video costs {growth:.2f} times as much as at φ = 0',
      'Networks of it:',
    ]
    for number in range(self.samples):
      spec = to_json(self.sample(coefficients, phi, number))
      lines.append(json.dumps({'family': self.family, 'spec': spec}))
    return '\n'.join(lines)


@dataclasses.dataclass(frozen=True)
class Scaled:
  """What a space of a φ is: a row of a listing.

  Attributes:
    phi: φ.
    frames, resolution, frame_stride: of the native clip.
    depth: most layers of a block.
    stems, widths, projects: that may be chosen; widths by block.
    mean_macs: of a native clip, over all networks, each decision uniform.
    frame_macs: mean_macs by frame.
    stretch_macs: the same for a stretch of one frame of video, of which a network sees
      one in so many.
  """

  phi: float
  frames: int
  resolution: int
  frame_stride: int
  depth: int
  stems: tuple[int, ...]
  widths: tuple[tuple[int, ...], ...]
  projects: tuple[int, ...]
  mean_macs: float
  frame_macs: float
  stretch_macs: float


def list_scaled(
  coefficients: Mapping[str, float] | Coefficients,
  phis: Sequence[float],
  base: Mapping | None = None,
  num_classes: int = 600,
) -> tuple[Scaled, ...]:
  """The spaces that coefficients scale a base to.

  Args:
    base: arguments of movinet.make_space at φ = 0.

  Raises:
    ValueError: an argument does not fit.
  """
  rows = []
  for phi in phis:
    scaled = scale(_check_base(base), coefficients, phi)
    clip = scaled.base
    macs = count_mean_macs(scaled, num_classes)
    rows.append(
      Scaled(
        phi=phi,
        frames=clip.frames,
        resolution=clip.resolution,
        frame_stride=clip.frame_stride,
        depth=scaled.blocks[0].depth,
        stems=scaled.stems,
        widths=tuple(block.widths for block in scaled.blocks),
        projects=scaled.projects,
        mean_macs=macs,
        frame_macs=macs / clip.frames,
        stretch_macs=macs / (clip.frames * clip.frame_stride),
      )
    )
  return tuple(rows)


def scale(base: Mapping, coefficients, phi: float) -> MovinetSpace:
  """The base scaled. Widths that round to one are one choice, unless the base refuses."""
  return make_movinet_space(phi, coefficients=coefficients, **{'merge_equal': True, **base})


def count_mean_macs(scaled: MovinetSpace, num_classes: int = 600) -> float:
  """Mean multiply-adds of a native clip over a space's networks, each decision uniform.

  Exact: a network's are a sum over layers, each of which depends on decisions that are
  drawn independently; and all but the first layer of a block have equal means.
  """
  blocks = [dataclasses.replace(block, depth=min(2, block.depth)) for block in scaled.blocks]
  shallow = dataclasses.replace(scaled, blocks=tuple(blocks))
  once, further = _count_shallow(shallow, num_classes)
  layers = zip(scaled.blocks, further, strict=True)
  return once + sum((block.depth - 1) * macs for block, macs in layers)


@functools.lru_cache(maxsize=1024)
def _count_shallow(shallow: MovinetSpace, num_classes: int):
  """Means of what a network has once, and of a further layer of each block."""
  _, *terms, _ = table = make_cost_table(shallow, num_classes=num_classes).terms
  further = [0.0] * len(shallow.blocks)
  for place, term in zip(shallow.places, terms, strict=True):
    if place.layer:
      further[place.block] = float(term.table.mean())
  return sum(float(term.table.mean()) for term in table) - sum(further), tuple(further)


def make_space(
  *,
  base: Mapping | None = None,
  grid=GRID,
  target: float = 4.0,
  tolerance: float = 0.1,
  frame_macs: float | None = None,
  baselines: Sequence[str] = AXES,
  include: Mapping[str, Mapping[str, float]] | None = None,
  phis: Sequence[float] = (1.0,),
  samples: int = 3,
  seed: int = 0,
  num_classes: int = 600,
) -> ScalingSpace:
  """Finds all coefficients of a grid that meet the constraint.

  Costs are mean multiply-adds for a second of video, so that the frame rate counts.

  Args:
    base: arguments of movinet.make_space at φ = 0; None: the published space.
    grid: values of every coefficient, or a mapping of values by coefficient.
    target: φ + 1 multiplies the cost by this.
    tolerance: relative, of the ratio at the first φ.
    frame_macs: mean cost of a frame that ratios are of; None: that of the base,
      measured. A.1 says 300e6, the published space has 381e6.
    baselines: axes that are each scaled alone, to the realizable cost nearest to the
      target.
    include: other coefficients to compare with, by name; no constraint holds for them.
    phis: that may be trained, ascending: the search's own, others to check it at.
    samples: networks for each set of coefficients. A.1: 3.
    seed: of those.
    num_classes: N.

  Raises:
    ValueError: an argument does not fit, nothing meets the constraint (names what comes
      nearest), or an axis alone cannot.
  """
  base, phis = _check_base(base), _check_phis(phis)
  for name, value, most in (('target', target, 100), ('tolerance', tolerance, 1)):
    if not arguments.is_between(value, 0, most):
      raise ValueError(f'{name} is {value!r}; wanted a number from 0 to {most}')
  if not isinstance(seed, numbers.Integral) or seed < 0:
    raise ValueError(f'seed is {seed!r}; wanted a whole number from 0')
  arguments.check_whole('samples', samples)
  arguments.check_whole('num_classes', num_classes)
  grid, given = _check_grid(grid), _check_given(baselines, include or {})
  meter = _Meter(base, phis[0], num_classes, _find_unit(base, frame_macs, num_classes))
  wanted = target ** phis[0]
  candidates = _find_candidates(meter, grid, wanted, tolerance)
  others = {axis: _scale_alone(meter, axis, wanted) for axis in baselines}
  others |= {name: meter.measure(coefficients) for name, coefficients in given.items()}
  _check_scales(base, others, phis)
  values = {
    axis: tuple(sorted({*grid[axis], *(o.coefficients[axis] for o in others.values())}))
    for axis in AXES
  }
  sizes = int(samples), int(seed), int(num_classes)
  return ScalingSpace(base, values, phis, *sizes, candidates, others)


def _find_unit(base: Mapping, frame_macs: float | None, num_classes: int) -> float:
  """What the base costs for a stretch of one frame of video, measured or as given."""
  unscaled = scale(base, PUBLISHED, 0.0)
  if frame_macs is None:
    return _count_stretch(unscaled, num_classes)
  if arguments.is_between(frame_macs, 1, math.inf):
    return frame_macs / unscaled.base.frame_stride
  raise ValueError(f'frame_macs is {frame_macs!r}; wanted multiply-adds such as 300e6, or None')


def _count_stretch(scaled: MovinetSpace, num_classes: int) -> float:
  """Mean cost of a stretch of one frame of video; networks see one in so many."""
  clip = scaled.base
  return count_mean_macs(scaled, num_classes) / (clip.frames * clip.frame_stride)


class _Meter(typing.NamedTuple):
  """Measures what coefficients make of a base at a φ, in multiples of a unit."""

  base: Mapping
  phi: float
  num_classes: int
  unit: float

  def measure(self, coefficients: Sequence[float]) -> Candidate:
    named = dict(zip(AXES, map(float, coefficients), strict=True))
    scaled = scale(self.base, named, self.phi)
    ratio = _count_stretch(scaled, self.num_classes) / self.unit
    digest = hashlib.sha256(repr(scaled).encode()).hexdigest()[:12]
    return Candidate(named, ratio, digest)


def _find_candidates(meter, grid, target, tolerance) -> tuple[Candidate, ...]:
  found = [meter.measure(values) for values in itertools.product(*(grid[a] for a in AXES))]
  fitting = [c for c in found if abs(c.ratio / target - 1) <= tolerance]
  if not fitting:
    near = min(found, key=lambda c: abs(math.log(c.ratio / target)))
    named = ', '.join(f'{axis} {value:g}' for axis, value in near.coefficients.items())
    raise ValueError(
      f'none of {len(found):,} combinations of coefficients multiplies the cost by '
      f'{target:g} to within {100 * tolerance:g} %; {named} comes nearest, with '
      f'{near.ratio:.3f}: widen the tolerance or the grid'
    )
  return tuple(fitting)


def _scale_alone(meter, axis: str, target: float) -> Candidate:
  """One axis scaled to the realizable cost nearest to the target, in ratio.

  Of factors that round to the same space it is the smallest.
  """

  def measure(factor):
    return meter.measure([factor if name == axis else 1.0 for name in AXES])

  def find(ratio):  # the smallest factor that costs so much
    return bisect.bisect_left(ALONE, ratio, key=lambda factor: measure(factor).ratio)

  place = find(target)
  near = [measure(factor) for factor in ALONE[max(0, place - 1) : place + 1]]
  best = min(near, key=lambda found: abs(math.log(found.ratio / target)))
  best = measure(ALONE[find(best.ratio)])
  if not target / 2 < best.ratio < target * 2:
    raise ValueError(
      f'{axis} alone cannot multiply the cost by {target:g}: {best.ratio:.2f} comes '
      f'nearest, with {best.coefficients[axis]:g}; leave it out of baselines'
    )
  return best


def _join(widths: Sequence[int]) -> str:
  return ', '.join(map(str, widths))


def _check_base(base) -> dict:
  base = {} if base is None else base
  if not isinstance(base, Mapping):
    raise ValueError(f'base is {base!r}; wanted the arguments of a MoViNet space')
  for name in ('phi', 'coefficients', 'clip'):
    if name in base:
      raise ValueError(f'base has {name}, which the search decides; leave it out')
  return dict(base)


def _check_phis(phis) -> tuple[float, ...]:
  if not isinstance(phis, (list, tuple)) or not phis:
    raise ValueError(f'phis is {phis!r}; wanted a list such as (1.0, 2.0)')
  found = tuple(map(arguments.check_phi, phis))
  if list(found) != sorted(set(found)) or found[0] <= 0:
    raise ValueError(f'phis is {phis!r}; wanted numbers above 0 that ascend')
  return found


def _check_given(baselines, include) -> dict[str, tuple[float, ...]]:
  """The coefficients that are included, by name."""
  for axis in baselines:
    check_name(axis, AXES, 'coefficient')
  for name in include:
    if name in baselines:
      raise ValueError(f'include has {name!r}, which is a baseline already')
  return {name: arguments.check_coefficients(given, AXES) for name, given in include.items()}


def _check_scales(base, others: Mapping[str, Candidate], phis):
  """Raises a ValueError for a baseline that has no networks at a later φ."""
  for (name, other), phi in itertools.product(others.items(), phis[1:]):
    try:
      scale(base, other.coefficients, phi)
    except ValueError as error:
      raise ValueError(f'{name} cannot be scaled to φ = {phi:g}: {error}') from error


def _check_grid(grid) -> dict[str, tuple[float, ...]]:
  grid = grid if isinstance(grid, Mapping) else dict.fromkeys(AXES, grid)
  if set(grid) != set(AXES):
    raise ValueError(f'grid is of {", ".join(grid)}; wanted {", ".join(AXES)}')
  checked = {}
  for axis in AXES:
    checked[axis] = arguments.check_multipliers(f'grid of {axis}', grid[axis])
    arguments.check_coefficients(dict.fromkeys(AXES, checked[axis][0]), AXES)
  return checked
