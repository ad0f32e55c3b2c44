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
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np

from movinet_jax import schema
from movinet_jax.models import movinet
from movinet_jax.schema import ASCENDING, Natural, Range, Share
from movinet_jax.spec import Size
from nas.candidate import Candidate
from nas.space import OneOf, Space
from nas.spaces.movinet.arguments import Coefficient, Phi
from nas.spaces.movinet.cost import make_cost_table
from nas.spaces.movinet.space import PUBLISHED, Coefficients, MovinetSpace, read_coefficients
from nas.spaces.movinet.space import make_space as make_movinet_space

AXES = Coefficients._fields
GRID = tuple(round(1.05 + 0.05 * i, 2) for i in range(8))
# Factors of one axis alone, of which the one that costs nearest to the target is taken.
ALONE = tuple(round(1.05 + 0.05 * i, 2) for i in range(160))
_Values = Annotated[tuple[Coefficient, ...], ASCENDING]
_Phis = Annotated[tuple[Annotated[Phi, Range(above=0)], ...], ASCENDING]


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
  supernet: typing.ClassVar[None] = None

  describe_network = staticmethod(MovinetSpace.describe_network)

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

  def list_scaled(
    self, coefficients: Mapping[str, float], phis: Sequence[float]
  ) -> 'tuple[Scaled, ...]':
    """What the spaces are that coefficients scale the base to; see `list_scaled`."""
    return list_scaled(coefficients, phis, self.base, self.num_classes)


@dataclasses.dataclass(frozen=True)
class Scaled:
  """What a space of a φ is: a row of a listing.

  Attributes:
    phi: φ.
    frames, resolution, frame_stride: of the native clip.
    least, depth: fewest and most layers of a block.
    stems, widths, projects: that may be chosen; widths by block.
    mean_macs: of a native clip, over all networks, each decision uniform.
    frame_macs: mean_macs by frame.
    stretch_macs: the same for a stretch of one frame of video, of which a network sees
      one in so many.
  """

  phi: float
  frames: int
  resolution: int
  frame_stride: float
  least: int
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
  rows, base = [], _read_base(base)
  for phi in phis:
    scaled = scale(base, coefficients, schema.build(Phi, phi, 'phi'))
    clip = scaled.base
    macs = count_mean_macs(scaled, num_classes)
    rows.append(
      Scaled(
        phi=phi,
        frames=clip.frames,
        resolution=clip.resolution,
        frame_stride=clip.frame_stride,
        least=scaled.blocks[0].least,
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
  drawn independently; all but the first layer of a block have equal means, half that if
  they may be left out; and all is linear in the number of frames.
  """
  blocks = [
    dataclasses.replace(block, depth=min(2, block.depth), least=1) for block in scaled.blocks
  ]

  def count(frames: int) -> float:
    # Many strides and depths share a table: a grid of coefficients takes a few hundred.
    clip = dataclasses.replace(scaled.base, frames=frames, frame_stride=1)
    shallow = dataclasses.replace(scaled, blocks=tuple(blocks), base=clip)
    once, further = _count_shallow(shallow, num_classes)
    layers = zip(scaled.blocks, further, strict=True)
    return once + sum((b.depth + b.least - 2) * macs for b, macs in layers)

  one, two = count(1), count(2)
  return one + (scaled.base.frames - 1) * (two - one)


@functools.lru_cache(maxsize=1024)
def _count_shallow(shallow: MovinetSpace, num_classes: int):
  """Means of what a network has once, and of a layer that may be left out of each block."""
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
  target: Annotated[float, Range(above=0, most=100)] = 4.0,
  tolerance: Share = 0.1,
  frame_macs: Annotated[float, Range(1)] | None = None,
  baselines: tuple[Literal[AXES], ...] = AXES,
  include: Mapping[str, Mapping] | None = None,
  phis: _Phis = (1.0,),
  samples: Size = 3,
  seed: Natural = 0,
  num_classes: Size = 600,
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
  base, grid = _read_base(base), grid if isinstance(grid, Mapping) else dict.fromkeys(AXES, grid)
  grid = schema.call(_Grid, grid, 'grid')._asdict()
  for name in include or {}:
    if name in baselines:
      raise ValueError(f'include has {name!r}, which is a baseline already')
  given = {name: read_coefficients(c, f'include.{name}') for name, c in (include or {}).items()}
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
  return ScalingSpace(base, values, phis, samples, seed, num_classes, candidates, others)


def _find_unit(base: Mapping, frame_macs: float | None, num_classes: int) -> float:
  """What the base costs for a stretch of one frame of video, measured or as given."""
  unscaled = scale(base, PUBLISHED, 0.0)
  if frame_macs is None:
    return _count_stretch(unscaled, num_classes)
  return frame_macs / unscaled.base.frame_stride


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


class _Grid(typing.NamedTuple):
  """Values of each coefficient."""

  depth: _Values
  width: _Values
  resolution: _Values
  rate: _Values


def _read_base(base: Mapping | None) -> dict:
  """Arguments of the base's space, checked; those that the search decides are none of them."""
  decided = {'phi': 0.0, 'coefficients': PUBLISHED, 'clip': None}
  bound = schema.bind(make_movinet_space, base or {}, 'base', **decided)
  return {name: value for name, value in bound.keywords.items() if name not in decided}


def _check_scales(base, others: Mapping[str, Candidate], phis):
  """Raises a ValueError for a baseline that has no networks at a later φ."""
  for (name, other), phi in itertools.product(others.items(), phis[1:]):
    try:
      scale(base, other.coefficients, phi)
    except ValueError as error:
      raise ValueError(f'{name} cannot be scaled to φ = {phi:g}: {error}') from error
