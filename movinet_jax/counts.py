"""What every named network costs, counted before: tracing all of them takes minutes.

`counts.json` holds the numbers of `cost.count` beside a digest of each architecture. An
architecture that is not in the file, or has changed since, is counted when it is asked for.

  python -m movinet_jax.counts           adds what is new or has changed to the file
  python -m movinet_jax.counts --all     counts everything again, about four minutes on two cores
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import tqdm

from movinet_jax import cost, models
from movinet_jax.spec import to_json

FILE = Path(__file__).with_suffix('.json')


@dataclasses.dataclass(frozen=True)
class Counts:
  """Costs of a network with the classes of its family's data set, for one native clip.

  Attributes:
    macs: multiply-adds of the clip.
    params: trained parameters.
    frame_macs: multiply-adds of the dearest frame of a stream; None if it is none.
    state_bytes: what a stream keeps between frames, in float32; 0 if it is none.
  """

  macs: int
  params: int
  frame_macs: int | None
  state_bytes: int


def find_counts(names: Iterable[str], *, progress: bool = True) -> dict[str, Counts]:
  """The costs of named networks; those that the file does not have are counted.

  Args:
    names: 'family/variant'.
    progress: whether to draw a bar while networks are counted.
  """
  known, names = read_counts(), list(names)
  missing = [name for name in names if name not in known]
  for name in tqdm.tqdm(missing, unit='network', disable=not progress or not missing):
    known[name] = count_network(name)
  return {name: known[name] for name in names}


def count_network(name: str) -> Counts:
  """Counts a named network by tracing it, which takes seconds."""
  model = models.create(name)
  size = model.spec.resolution, model.spec.resolution
  clip = cost.count(model, (1, model.spec.frames, *size, 3))
  frame = cost.count(model, (1, 1, *size, 3)) if model.spec.causal else None
  return Counts(clip.macs, clip.params, frame and frame.macs, clip.state_bytes)


def read_counts() -> dict[str, Counts]:
  """The rows of the file whose architectures are still the same."""
  rows = json.loads(FILE.read_text()) if FILE.exists() else {}
  known = {name: row for name, row in rows.items() if name in models.variants()}
  return {
    name: Counts(**{key: value for key, value in row.items() if key != 'digest'})
    for name, row in known.items()
    if row['digest'] == make_digest(name)
  }


def write_counts(counts: Mapping[str, Counts]) -> None:
  """Writes the file, a line for each network."""
  rows = [
    f'{json.dumps(name)}: {json.dumps({"digest": make_digest(name), **dataclasses.asdict(row)})}'
    for name, row in counts.items()
  ]
  FILE.write_text('{\n' + ',\n'.join(rows) + '\n}\n')


def make_digest(name: str) -> str:
  """A digest of a named architecture and of its number of classes."""
  family, _, variant = name.partition('/')
  module = models.find_family(family)
  data = [to_json(module.VARIANTS[variant]), module.NUM_CLASSES]
  return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == '__main__':
  if '--all' in sys.argv[1:]:
    FILE.unlink(missing_ok=True)
  write_counts(find_counts(models.variants()))
