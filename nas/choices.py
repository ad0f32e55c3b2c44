"""The choices of a space: what they are called, how sure a policy is, what was trained."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from nas.space import Space


def format_choice(value) -> str:
  """Formats a value of a space or a spec: 24, 1×3×3, left out, yes."""
  if value is None:
    return 'left out'
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, Mapping):
    return ', '.join(f'{k} {format_choice(v)}' for k, v in value.items())
  if isinstance(value, (list, tuple)):
    names = any(isinstance(part, str) for part in value)
    return (', ' if names else '×').join(map(format_choice, value))
  return f'{value:g}' if isinstance(value, float) else str(value)


def count_trained(space: Space, choices) -> np.ndarray:
  """Counts how many of n networks trained each choice: [D, most choices] of vectors [n, D].

  A network does not train the choices of a decision that is closed in it.
  """
  counts = np.zeros((len(space), max(space.sizes, default=0)), np.int64)
  for start in range(0, len(choices), 65_536):  # bounds the memory
    part = np.asarray(choices[start : start + 65_536])
    opened = space.is_open(part)
    for n in range(len(space)):
      counts[n] += np.bincount(part[opened[:, n], n], minlength=counts.shape[1])
  return counts


def share_entropy(sizes: Sequence[int], table: np.ndarray) -> np.ndarray:
  """Returns entropies [..., D] as shares of the most possible; 0 where there is one choice."""
  inside = np.where(table > 0, table, 1)
  entropy = -np.sum(inside * np.log(inside), axis=-1)
  most = np.log(np.asarray(sizes, float))
  return np.divide(entropy, most, out=np.zeros_like(entropy), where=most > 0)


def mean_entropy(sizes: Sequence[int], table: np.ndarray) -> np.ndarray | None:
  """Returns means [...] of `share_entropy` over decisions with a choice; None without any.

  A decision with one choice has no entropy to lose and would make a policy look surer.
  """
  free = np.asarray(sizes) > 1
  return share_entropy(sizes, table)[..., free].mean(axis=-1) if free.any() else None


def name_choices(space: Space) -> list[list[str]]:
  """Returns for each decision the names of its choices."""
  return [
    # A layer that may be left out is named by that, not by everything inside it.
    ['kept' if None in row and isinstance(v, dict) else format_choice(v) for v in row]
    for row in space.values
  ]


def list_groups(space: Space) -> dict[str, list[int]]:
  """Maps each part of the network to the numbers of its decisions."""
  groups = {}
  for n, decision in enumerate(space.decisions):
    groups.setdefault(_split_path(decision.path)[0], []).append(n)
  return groups


def name_decision(path: str) -> str:
  group, place, rest = _split_path(path)
  return f'{place} {rest}'.strip() or group


def _split_path(path: str) -> tuple[str, str, str]:
  """Splits a path into part of the network, place in it and rest: blocks/0, layers/2, kernel."""
  keys = [key.split(':')[0] for key in path.split('/')]
  ends = [i + 1 for i, key in enumerate(keys) if key.isdigit()]
  first = ends[0] if ends else 0
  second = ends[1] if len(ends) > 1 else first
  return tuple('/'.join(part) for part in (keys[:first], keys[first:second], keys[second:]))


def find_chosen(space: Space, found: Mapping) -> dict[int, int]:
  """Maps numbers of decisions to choices, given values by path.

  Raises:
    ValueError: the values are of another space.
  """
  known = {d.path: n for n, d in enumerate(space.decisions)}
  chosen = {}
  for path, value in found.items():
    # Compares texts, because in Python 1 == 1.0 == True.
    texts = [json.dumps(v) for v in space.values[known[path]]] if path in known else []
    if json.dumps(value) not in texts:
      raise ValueError(
        f'choices of another space: {path} is {json.dumps(value)}, the space has '
        f'{" or ".join(texts) or "no such decision"}'
      )
    chosen[known[path]] = texts.index(json.dumps(value))
  return chosen


def describe_changes(space: Space, changed: Mapping) -> str:
  """Describes choices by path, each once: those that a choice opens are told within it.

  Raises:
    ValueError: the values are of another space.
  """
  chosen = find_chosen(space, changed)
  paths = {space.decisions[n].path: n for n in chosen}

  def say(n: int) -> str:
    row, choice = space.values[n], chosen[n]
    said = format_choice(fill(row[choice], f'{space.decisions[n].path}:{choice}'))
    if None in row and isinstance(row[choice], Mapping):
      return f'kept ({said})' if said else 'kept'
    return said

  def fill(value, path: str):
    """Returns a choice with what was chosen inside it."""
    if path in paths:
      return say(paths[path])
    if isinstance(value, Mapping):
      return {key: fill(part, f'{path}/{key}') for key, part in value.items()}
    if isinstance(value, tuple):
      return tuple(fill(part, f'{path}/{i}') for i, part in enumerate(value))
    return value

  inside = {n for n in chosen if any(m in chosen for m, _ in space.decisions[n].needs)}
  tops = sorted(chosen.keys() - inside)
  return ', '.join(f'{space.decisions[n].path} → {say(n)}' for n in tops)
