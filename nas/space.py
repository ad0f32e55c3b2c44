"""Search spaces: immutable trees of choices, and architectures as vectors of them.

A tree is made of mappings, tuples, plain values and `OneOf`. A decision inside a choice
matters only where that choice is taken: it is *open* there and closed elsewhere.

    Space({'width': OneOf((8, 16)), 'layer': OneOf((None, {'kernel': OneOf((1, 3))}))})

An architecture is a vector with a number for every decision. Decisions are numbered in
pre-order: a decision before those inside its choices, choices in their order, mappings in
the order of their keys. That order is part of the format, which has a version.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import operator
import types
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

VERSION = 1
TAGS = ('op', 'filters')


@dataclasses.dataclass(frozen=True)
class OneOf:
  """A decision between `choices`: plain values, or trees with decisions of their own.

  `tag` is the kind of thing decided, for which searches have different warm-ups: 'op', or
  'filters' whose choices are numbers of channels, ascending.
  """

  choices: tuple
  tag: str = 'op'

  def __post_init__(self):
    object.__setattr__(self, 'choices', tuple(map(_freeze, self.choices)))
    if not self.choices:
      raise ValueError('a decision needs at least one choice')
    if self.tag not in TAGS:
      raise ValueError(f'the tag of a decision is one of {TAGS}, got {self.tag!r}')
    if self.tag == 'filters' and not _ascend(self.choices):
      raise ValueError(f'choices of filters ascend, got {self.choices}')
    written = [json.dumps(_to_json(choice)) for choice in self.choices]
    if len(set(written)) < len(written):
      twice = next(text for text in written if written.count(text) > 1)
      raise ValueError(f'a decision between {self.choices} has the choice {twice} twice')


@dataclasses.dataclass(frozen=True)
class Decision:
  """A numbered decision.

  Attributes:
    path: where it stands: keys and positions joined by '/', and ':i' behind a decision
      that it lies inside of, in whose choice i: 'layers/2:1/kernel'.
    choices: how many there are.
    tag: see OneOf.
    needs: (number of a decision, its choice) for each that must be so for this to be open.
  """

  path: str
  choices: int
  tag: str
  needs: tuple[tuple[int, int], ...]


class Space:
  """A tree of choices, with its decisions numbered."""

  def __init__(self, tree):
    self.tree = _freeze(tree)
    self.decisions = tuple(_list_decisions(self.tree))
    self._numbers = {d.path: n for n, d in enumerate(self.decisions)}

  def __len__(self) -> int:
    return len(self.decisions)

  def __eq__(self, other):
    return isinstance(other, Space) and self.digest == other.digest

  def __hash__(self):
    return hash(self.digest)

  @functools.cached_property
  def digest(self) -> str:
    """Equal for equal spaces: whose vectors mean the same."""
    return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()[:16]

  @functools.cached_property
  def sizes(self) -> np.ndarray:
    """[D], how many choices each decision has."""
    return np.array([d.choices for d in self.decisions], np.int32)

  def number(self, path: str) -> int:
    """The number of the decision at a path.

    Raises:
      ValueError: there is none; names the nearest.
    """
    if path not in self._numbers:
      near = difflib.get_close_matches(path, self._numbers, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise ValueError(f'the space has no decision at {path!r}{hint}')
    return self._numbers[path]

  def count(self) -> int:
    """How many architectures there are, exactly."""
    return _count(self.tree)

  def sample(self, rng: np.random.Generator) -> np.ndarray:
    """A vector [D] int32, every decision uniform by itself, as searches begin."""
    return rng.integers(self.sizes).astype(np.int32)

  def is_open(self, choices) -> np.ndarray:
    """[..., D] bool of vectors [..., D]: which decisions matter in each."""
    choices = np.asarray(choices)
    opened = np.ones(choices.shape, bool)
    for n, decision in enumerate(self.decisions):
      for parent, wanted in decision.needs:
        opened[..., n] &= choices[..., parent] == wanted
    return opened

  def canonical(self, choices) -> np.ndarray:
    """The vector with 0 for every closed decision: equal for equal architectures."""
    choices = self.check(choices)
    return np.where(self.is_open(choices), choices, 0).astype(np.int32)

  def enumerate(self) -> Iterator[np.ndarray]:
    """All architectures, as canonical vectors."""
    for found in _enumerate(self.tree):
      yield np.array(found, np.int32)

  def decode(self, choices):
    """The tree with every decision replaced by what was chosen; mappings are dicts."""
    numbers = iter(self.check(choices).tolist())
    return _decode(self.tree, numbers)

  def describe(self, choices) -> dict[str, object]:
    """What was chosen for each open decision, by path."""
    choices = self.check(choices)
    opened = self.is_open(choices)
    return {self.decisions[n].path: self.values[n][choices[n]] for n in np.flatnonzero(opened)}

  @functools.cached_property
  def values(self) -> tuple[tuple, ...]:
    """What each choice of each decision is, without the decisions inside it."""
    nodes = _list_nodes(self.tree)
    return tuple(tuple(map(_outline, node.choices)) for node in nodes)

  def encode(self, chosen: Mapping[str, int]) -> np.ndarray:
    """A canonical vector of choice numbers by path; decisions that are not named are 0."""
    choices = np.zeros(len(self), np.int32)
    for path, choice in chosen.items():
      choices[self.number(path)] = operator.index(choice)
    return self.canonical(choices)

  def check(self, choices: Sequence[int]) -> np.ndarray:
    """A vector as int32.

    Raises:
      ValueError: it has another length, or a number that is no choice.
    """
    found = np.asarray(choices)
    if found.shape != (len(self),) or found.dtype.kind not in 'iu':
      raise ValueError(
        f'an architecture of this space is {len(self)} whole numbers, got '
        f'{found.dtype}{list(found.shape)}'
      )
    bad = np.flatnonzero((found < 0) | (found >= self.sizes))
    if bad.size:
      decision, value = self.decisions[bad[0]], found[bad[0]]
      raise ValueError(f'{decision.path} has choices 0 to {decision.choices - 1}, got {value}')
    return found.astype(np.int32)

  def to_json(self) -> dict:
    return {'version': VERSION, 'tree': _to_json(self.tree)}

  @classmethod
  def from_json(cls, data: Mapping) -> 'Space':
    """Reads what `to_json` made.

    Raises:
      ValueError: it is of another version, or no space.
    """
    if not isinstance(data, Mapping) or 'tree' not in data:
      raise ValueError('this is no search space: it has no tree')
    if data.get('version') != VERSION:
      raise ValueError(f'this space has version {data.get("version")!r}, this code reads {VERSION}')
    return cls(_from_json(data['tree']))


def _ascend(choices) -> bool:
  numeric = all(isinstance(c, (int, float)) for c in choices)
  return numeric and list(choices) == sorted(choices)


def _freeze(node):
  if isinstance(node, OneOf):
    return node
  if isinstance(node, Mapping):
    for key in node:
      if not isinstance(key, str) or not key or set(key) & {'/', ':'}:
        raise ValueError(f"a key of a space is text without '/' and ':', got {key!r}")
    return types.MappingProxyType({key: _freeze(v) for key, v in node.items()})
  if isinstance(node, (list, tuple)):
    return tuple(map(_freeze, node))
  if node is None or isinstance(node, (bool, int, float, str)):
    return node
  raise ValueError(f'a space is made of mappings, tuples, OneOf and plain values: {node!r}')


def _children(node) -> list[tuple[str, object]]:
  if isinstance(node, Mapping):
    return list(node.items())
  return [(str(i), child) for i, child in enumerate(node)]


def _list_decisions(tree) -> list[Decision]:
  found = []

  def walk(node, path, needs):
    if isinstance(node, OneOf):
      number = len(found)
      found.append(Decision(path, len(node.choices), node.tag, needs))
      for i, choice in enumerate(node.choices):
        walk(choice, f'{path}:{i}', (*needs, (number, i)))
    elif isinstance(node, (Mapping, tuple)):
      for key, child in _children(node):
        walk(child, f'{path}/{key}' if path else key, needs)

  walk(tree, '', ())
  return found


def _list_nodes(node) -> Iterator[OneOf]:
  """The decisions of a tree in their order."""
  if isinstance(node, OneOf):
    yield node
    node = node.choices
  if isinstance(node, (Mapping, tuple)):
    for _, child in _children(node):
      yield from _list_nodes(child)


def _count(node) -> int:
  if isinstance(node, OneOf):
    return sum(map(_count, node.choices))
  if isinstance(node, (Mapping, tuple)):
    return math.prod(_count(child) for _, child in _children(node))
  return 1


def _enumerate(node) -> Iterator[tuple[int, ...]]:
  """Numbers of the decisions in a node, for each way to decide them."""
  if isinstance(node, OneOf):
    closed = [(0,) * sum(1 for _ in _list_nodes(child)) for child in node.choices]
    for i, child in enumerate(node.choices):
      before, after = sum(closed[:i], ()), sum(closed[i + 1 :], ())
      for inside in _enumerate(child):
        yield (i, *before, *inside, *after)
  elif isinstance(node, (Mapping, tuple)):
    yield from _enumerate_all([child for _, child in _children(node)])
  else:
    yield ()


def _enumerate_all(nodes) -> Iterator[tuple[int, ...]]:
  """The same for several nodes side by side, without a list of any."""
  if not nodes:
    yield ()
    return
  for first in _enumerate(nodes[0]):
    for rest in _enumerate_all(nodes[1:]):
      yield first + rest


def _decode(node, numbers):
  if isinstance(node, OneOf):
    taken = next(numbers)
    # Those of the choices not taken are numbered too, and passed over.
    decoded = [_decode(choice, numbers) for choice in node.choices]
    return decoded[taken]
  if isinstance(node, Mapping):
    return {key: _decode(child, numbers) for key, child in node.items()}
  if isinstance(node, tuple):
    return tuple(_decode(child, numbers) for child in node)
  return node


def _outline(node):
  """A choice without the decisions inside it."""
  if isinstance(node, OneOf):
    return '…'
  if isinstance(node, Mapping):
    return {key: _outline(child) for key, child in node.items()}
  return tuple(map(_outline, node)) if isinstance(node, tuple) else node


def _to_json(node):
  if isinstance(node, OneOf):
    return {'one_of': [_to_json(c) for c in node.choices], 'tag': node.tag}
  if isinstance(node, Mapping):
    return {'map': {key: _to_json(child) for key, child in node.items()}}
  if isinstance(node, tuple):
    return [_to_json(child) for child in node]
  return node


def _from_json(data):
  if isinstance(data, list):
    return tuple(map(_from_json, data))
  if not isinstance(data, dict):
    return data
  if isinstance(data.get('one_of'), list):
    return OneOf(tuple(map(_from_json, data['one_of'])), data.get('tag', 'op'))
  if isinstance(data.get('map'), dict):
    return {key: _from_json(child) for key, child in data['map'].items()}
  raise ValueError(f'this is no part of a search space: {data!r}')
