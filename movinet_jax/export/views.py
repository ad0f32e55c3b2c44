"""Views of arrays of any rank as [N, H, W, C].

A view keeps all values in their order, so it costs nothing: it only merges neighboring axes.
"""

import itertools
import math
from collections.abc import Sequence

from movinet_jax.export.graph import Shape

Parts = tuple[
  tuple[int, int], ...
]  # of each of the four axes, the first and last + 1 it is made of


def list_parts(shape: Sequence[int]) -> list[Parts]:
  """Lists the views of an array as four axes, the most natural first.

  Frames of one video, or of one moment, become images. Frames of several become rows.
  """
  rank = len(shape)
  if rank <= 4:
    return [_spread(rank)]
  cuts = itertools.combinations(range(1, rank), 3)
  found = [tuple(itertools.pairwise((0, *cut, rank))) for cut in cuts]
  return sorted(found, key=lambda parts: _rank(shape, parts))


def _spread(rank: int) -> Parts:
  """Views an array of up to four axes: the first stays first, the last ones stay last."""
  if not rank:
    return ((0, 0),) * 4
  head, missing = ((0, 1),), 4 - rank
  return (*head, *((1, 1),) * missing, *((axis, axis + 1) for axis in range(1, rank)))


def _rank(shape, parts):
  """Ranks a view: lower means that fewer axes are merged, and the last one is not."""
  merged = [sum(shape[axis] > 1 for axis in range(*part)) > 1 for part in parts]
  return merged[3], sum(merged), merged[2], merged[1], merged[0]


def view(shape: Sequence[int], parts: Parts) -> Shape:
  """Returns the four sizes of an array in a view."""
  return tuple(math.prod(shape[slice(*part)]) for part in parts)


def is_whole(shape: Sequence[int], part: tuple[int, int], chosen) -> bool | None:
  """Whether all axes of a part that hold more than one value are chosen.

  Returns:
    False if none is chosen, None if only some of them are.
  """
  picked = {axis in chosen for axis in range(*part) if shape[axis] > 1}
  if len(picked) == 2:
    return None
  return picked == {True}


def find_part(shape: Sequence[int], parts: Parts, axis: int, *, alone: bool = False) -> int | None:
  """Finds the view's axis in which an axis is outermost, so that it can be sliced there.

  Args:
    alone: whether no other axis may be merged with it.
  """
  for number, (start, stop) in enumerate(parts):
    if start <= axis < stop:
      outer = math.prod(shape[start:axis])
      inner = math.prod(shape[axis + 1 : stop])
      return number if outer == 1 and (inner == 1 or not alone) else None
  return None


def broadcast_view(shape: Sequence[int], whole: Sequence[int], seen: Shape) -> Shape | None:
  """Views an array that is broadcast to `whole`, where `whole` is viewed as `seen`.

  Args:
    shape: of the same rank as `whole`; axes that are broadcast have size 1.

  Returns:
    Four sizes, each that of `seen` or 1; None if no such view exists.
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
  """Factors each axis of `seen` into axes of `whole`: pairs of an axis and a factor of its size.

  Returns:
    None if the two shapes have no common refinement.
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
