"""Arrays of any rank seen as [N, H, W, C], which moves nothing.

A view of an array has its values in the same order. Neighboring axes become one.
"""

import itertools
import math
from collections.abc import Sequence

from movinet_jax.export.graph import Shape

Parts = tuple[
  tuple[int, int], ...
]  # of each of the four axes, the first and last + 1 it is made of


def list_parts(shape: Sequence[int]) -> list[Parts]:
  """Ways to see an array as four axes, the most usual first.

  Frames of one video, or of one moment, are images; those of several are rows beside each other.
  """
  rank = len(shape)
  if rank <= 4:
    return [_spread(rank)]
  cuts = itertools.combinations(range(1, rank), 3)
  found = [tuple(itertools.pairwise((0, *cut, rank))) for cut in cuts]
  return sorted(found, key=lambda parts: _rank(shape, parts))


def _spread(rank: int) -> Parts:
  """Few axes: the first stays first, the last ones last."""
  if not rank:
    return ((0, 0),) * 4
  head, missing = ((0, 1),), 4 - rank
  return (*head, *((1, 1),) * missing, *((axis, axis + 1) for axis in range(1, rank)))


def _rank(shape, parts):
  """Lower is more usual: few axes of many values merged, the last of them none."""
  merged = [sum(shape[axis] > 1 for axis in range(*part)) > 1 for part in parts]
  return merged[3], sum(merged), merged[2], merged[1], merged[0]


def view(shape: Sequence[int], parts: Parts) -> Shape:
  """The four sizes that an array has when it is seen so."""
  return tuple(math.prod(shape[slice(*part)]) for part in parts)


def is_whole(shape: Sequence[int], part: tuple[int, int], chosen) -> bool | None:
  """Whether all axes of a part that hold more than one value are chosen.

  Returns:
    False if none is, None if it is some of them only.
  """
  picked = {axis in chosen for axis in range(*part) if shape[axis] > 1}
  if len(picked) == 2:
    return None
  return picked == {True}


def find_part(shape: Sequence[int], parts: Parts, axis: int, *, alone: bool = False) -> int | None:
  """Which of the four axes an axis is the outer one of: its slices are slices there.

  Args:
    alone: whether it must be all of it.
  """
  for number, (start, stop) in enumerate(parts):
    if start <= axis < stop:
      outer = math.prod(shape[start:axis])
      inner = math.prod(shape[axis + 1 : stop])
      return number if outer == 1 and (inner == 1 or not alone) else None
  return None


def broadcast_view(shape: Sequence[int], whole: Sequence[int], seen: Shape) -> Shape | None:
  """How to see an array that is broadcast to `whole`, which itself is seen as `seen`.

  Args:
    shape: of the same rank as `whole`; axes that are broadcast have size 1.

  Returns:
    Sizes of which each is that of `seen` or 1; None if there are none.
  """
  factors = refine(whole, seen)
  if factors is None:
    return None
  sizes = []
  for size, members in zip(seen, factors, strict=True):
    kept = {shape[axis] == whole[axis] for axis, factor in members if factor > 1}
    if len(kept) == 2:
      return None
    sizes.append(size if kept != {False} else 1)
  return tuple(sizes)


def refine(whole: Sequence[int], seen: Sequence[int]) -> list[list[tuple[int, int]]] | None:
  """Of each axis of `seen`, which axes of `whole` it holds a factor of, and which factor.

  None if the two cut the same values in ways that have no common refinement.
  """
  found, axis, left = [], 0, whole[0] if whole else 1
  for size in seen:
    members = []
    while size > 1:
      while left == 1:
        axis += 1
        left = whole[axis]
      factor = math.gcd(size, left)
      if factor not in (size, left):
        return None
      members.append((axis, factor))
      size, left = size // factor, left // factor
    found.append(members)
  return found
