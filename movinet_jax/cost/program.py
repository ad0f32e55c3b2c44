"""What a compiled program takes on each device: memory, and bytes between devices."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

KINDS = (
  *('all-reduce', 'all-gather', 'collective-permute'),
  *('reduce-scatter', 'all-to-all'),
)
_ARRAY = re.compile(r'\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]')
_COMMENT = re.compile(r'/\*.*?\*/|\{[^}]*\}')  # an index, and how an array is laid out
_COLLECTIVE = re.compile(rf'^ *(?:ROOT )?%?[\w.\-]+ = ([^"]*?) ({"|".join(KINDS)})(-start)?\(')
_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) .*\{$')
_CALLED = re.compile(
  r'\b(?:calls|body|branch_computations|called_computations|to_apply|'
  r'true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-]+)'
)
_ENDS = re.compile(r' async-(?:done|update)\(')  # of what was counted as it started
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r'\bcondition=%?([\w.\-]+)')
_LIMIT = re.compile(r's32\[\]\S* constant\((\d+)\)')


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes that a program takes on each device while it runs.

  Attributes:
    arguments: state and batch.
    outputs: results that have no argument's memory; what is donated counts once.
    temporaries: all between.
    code: the program itself.
  """

  arguments: int
  outputs: int
  temporaries: int
  code: int

  @property
  def total(self) -> int:
    return self.arguments + self.outputs + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Collective:
  """One exchange between devices.

  Attributes:
    kind: one of KINDS.
    shapes: of the results on each device, a pair of type and dimensions an array:
      ('f32', (3, 16)).
    bytes: of these results, once.
    times: how often a run of the program comes here.
    loops: how many loops it is in.
    in_branch: whether only some runs come here.
  """

  kind: str
  shapes: tuple[tuple[str, tuple[int, ...]], ...]
  bytes: int
  times: int = 1
  loops: int = 0
  in_branch: bool = False


def count_memory(compiled) -> Memory:
  """Memory of what `jax.jit(...).lower(...).compile()` returns."""
  found = compiled.memory_analysis()
  return Memory(
    arguments=found.argument_size_in_bytes,
    outputs=found.output_size_in_bytes - found.alias_size_in_bytes,
    temporaries=found.temp_size_in_bytes,
    code=found.generated_code_size_in_bytes,
  )


def estimate_secs(compiled) -> float | None:
  """The compiler's own estimate of a run; None where it has none."""
  found = compiled.cost_analysis() or {}
  secs = found.get('optimal_seconds', -1)
  return secs if secs > 0 else None


def count_collective_bytes(found: list[Collective]) -> dict[str, int]:
  """Bytes of a run on each device by kind; kinds that do not occur are left out."""
  total = dict.fromkeys(KINDS, 0)
  for one in found:
    total[one.kind] += one.bytes * one.times
  return {kind: size for kind, size in total.items() if size}


def find_collectives(text: str) -> list[Collective]:
  """All exchanges of a compiled program (`compiled.as_text()`).

  Those inside a loop come as often as the loop turns; of branches, all are counted.

  Raises:
    ValueError: this is no such text, or a loop with exchanges in it does not say how
      often it turns.
  """
  parts, entry = _split_computations(text)

  @functools.cache
  def read(name: str) -> list[Collective]:
    found = []
    for line in parts.get(name, ()):
      own = _read_collective(line)
      if own:
        found.append(own)
        continue
      inner = [one for called in _list_called(line) for one in read(called)]
      if inner:
        found += _nest(inner, line, parts)
    return found

  return read(entry)


def _split_computations(text: str) -> tuple[Mapping[str, list[str]], str]:
  """The lines of every computation by its name, and the name of the whole."""
  parts, entry, lines = {}, '', []
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head:
      lines = parts.setdefault(head[2], [])
      entry = head[2] if head[1] else entry
    else:
      lines.append(line)
  if not entry:
    raise ValueError('this is no program as XLA prints it: it has no ENTRY')
  return parts, entry


def _read_collective(line: str) -> Collective | None:
  found = _COLLECTIVE.match(line)
  if not found:
    return None
  shapes, kind, started = found.groups()
  arrays = tuple(
    (dtype, tuple(map(int, filter(None, dims.split(',')))))
    for dtype, dims in _ARRAY.findall(_COMMENT.sub('', shapes))
  )
  if started and kind != 'all-reduce':
    # What it begins with, what comes out, and two counters of some kinds.
    arrays = tuple(a for a in arrays if a != ('u32', ()))
    arrays = arrays[len(arrays) // 2 :]
  return Collective(kind, arrays, sum(map(_count_bytes, arrays)))


def _count_bytes(array: tuple[str, tuple[int, ...]]) -> int:
  dtype, dims = array
  bits = 8 if dtype == 'pred' else int(re.search(r'\d+', dtype)[0])
  return math.prod(dims) * bits // 8


def _list_called(line: str) -> list[str]:
  """Computations that an instruction runs; not those that only combine two numbers."""
  if _ENDS.search(line):
    return []
  groups = [group.strip('{}').split(',') for group in _CALLED.findall(line)]
  return [name.strip(' %') for group in groups for name in group]


def _nest(inner: list[Collective], line: str, parts) -> list[Collective]:
  """Exchanges as seen from outside of the instruction that they are in."""
  looped, branch = ' while(' in line, ' conditional(' in line
  turns = _count_turns(line, parts) if looped else 1
  return [
    dataclasses.replace(
      one,
      times=one.times * turns,
      loops=one.loops + looped,
      in_branch=one.in_branch or branch,
    )
    for one in inner
  ]


def _count_turns(line: str, parts) -> int:
  """Turns of a loop: as the compiler says, or the limit that it counts up to from 0."""
  known = _TURNS.search(line)
  if known:
    return int(known[1])
  condition = parts[_CONDITION.search(line)[1]]
  limits = [int(n) for n in _LIMIT.findall('\n'.join(condition))]
  if len(limits) != 1 or not any('direction=LT' in line for line in condition):
    raise ValueError(
      'a loop in which devices exchange data does not say how often it turns:\n'
      + '\n'.join(condition)
    )
  return limits[0]
