"""A classifier for other classes: it keeps what it has learned of those with the same names."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from movinet_jax.names import show

_SHOWN, _WIDTH = 3, 40  # names that are shown, and letters of each


@dataclasses.dataclass(frozen=True)
class Relabeling:
  """From the classes of a trained network to those of another.

  Attributes:
    old: their names in the trained network.
    new: their names in the network that begins with its weights.
  """

  old: tuple[str, ...]
  new: tuple[str, ...]

  def __bool__(self) -> bool:
    return self.old != self.new

  @property
  def shared(self) -> list[tuple[int, int]]:
    """(number in the trained network, number in the new one) of each class that both have."""
    numbers = {name: number for number, name in enumerate(self.old)}
    return [(numbers[name], number) for number, name in enumerate(self.new) if name in numbers]

  def describe(self) -> str:
    """What becomes of the classifier, in a line."""
    dropped = [name for name in self.old if name not in self.new]
    drawn = [name for name in self.new if name not in self.old]
    if not self.shared:
      return (
        f'The classifier is drawn anew: it is of other classes ({_list(self.old)}) than this data '
        f'({_list(self.new)})'
      )
    kept = _count(len(self.shared))
    if not dropped and not drawn:
      return f'The classifier is put in order: its {kept} have other numbers in this data'
    parts = [f'keeps the {kept} of this data that it knows by name']
    if dropped:
      parts.append(f'drops {_count(len(dropped))} that this data does not have ({_list(dropped)})')
    if drawn:
      parts.append(f'draws {_count(len(drawn))} anew ({_list(drawn)})')
    return f'The classifier {", ".join(parts[:-1])} and {parts[-1]}'

  def apply(
    self, arrays: Mapping[str, np.ndarray], part: str, make: Callable[[], Mapping]
  ) -> dict[str, np.ndarray]:
    """The arrays of the trained network, those of its classifier for the new classes.

    Where no class is shared, they are left out.

    Args:
      arrays: by path. Those of the classifier have the classes on their last axis.
      part: of the path of the classifier's arrays.
      make: gives the arrays of the new network, initialised; called where classes are new.
    """
    shared = np.array(self.shared, int).reshape(-1, 2)
    own = [name for name in arrays if part in name.split('/')]
    found = {name: array for name, array in arrays.items() if name not in own}
    if not len(shared):
      return found
    initial = make() if len(shared) < len(self.new) else {}
    for name in own:
      shape = (*arrays[name].shape[:-1], len(self.new))
      begun = np.array(initial.get(name, np.zeros(shape, arrays[name].dtype)))
      if begun.shape == shape:  # or it is of another network, which is found later
        begun[..., shared[:, 1]] = arrays[name][..., shared[:, 0]]
        found[name] = begun
    return found


def _count(classes: int) -> str:
  return f'{classes} class{"es" * (classes != 1)}'


def _list(names) -> str:
  more = ', …' if len(names) > _SHOWN else ''
  return ', '.join(repr(show(name, _WIDTH)) for name in names[:_SHOWN]) + more
