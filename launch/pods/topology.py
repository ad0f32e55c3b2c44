"""TPU slices: what a name as 'v5e:16x16' stands for, at Google and for a compiler."""

import dataclasses
import math

from movinet_jax.names import suggest

_GIB = 1 << 30
_CHIPS_PER_HOST = 4  # of every slice of several hosts, in all these generations


@dataclasses.dataclass(frozen=True)
class Generation:
  """One kind of TPU chip.

  Attributes:
    memory_bytes: of a chip, as the TPU compiler counts what a program may use.
    one_host: chips of the shapes that are one machine by themselves.
    cores_per_chip: gcloud counts the cores of v4 and v5p, and the chips of the others;
      JAX shows one device per chip for all of them.
    gke_accelerator: value of the node label cloud.google.com/gke-tpu-accelerator.
    gcloud_prefix: of --accelerator-type.
    runtime_version: of a TPU VM, for JAX.
  """

  memory_bytes: int
  one_host: tuple[int, ...]
  cores_per_chip: int
  gke_accelerator: str
  gcloud_prefix: str
  runtime_version: str
  shapes: tuple[str, ...]


_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_V4 = (
  *('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8', '8x8x12'),
  *('8x8x16', '8x16x16'),
)
_V5P = (
  *('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8', '8x8x16'),
  *('8x16x16', '16x16x16', '16x16x24'),
)

# Shapes, hosts and accelerator types: cloud.google.com/tpu/docs/v4, v5e, v5p and v6e;
# runtime versions: cloud.google.com/tpu/docs/runtimes; labels:
# cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus, and the table in xpk's
# system_characteristics.py. Memory: the limit that libtpu 0.0.42 names when a program
# is too large for the chip (of v4, whose two cores it counts apart: what it names on
# machines). v4 and v5p have more shapes than these, rarely used ones.
GENERATIONS = {
  'v4': Generation(
    memory_bytes=int(30.75 * _GIB),
    one_host=(4,),
    cores_per_chip=2,
    gke_accelerator='tpu-v4-podslice',
    gcloud_prefix='v4',
    runtime_version='tpu-ubuntu2204-base',
    shapes=_V4,
  ),
  'v5e': Generation(
    memory_bytes=int(15.75 * _GIB),
    one_host=(1, 4, 8),
    cores_per_chip=1,
    gke_accelerator='tpu-v5-lite-podslice',
    gcloud_prefix='v5litepod',
    runtime_version='v2-alpha-tpuv5-lite',
    shapes=_FLAT,
  ),
  'v5p': Generation(
    memory_bytes=int(95.74 * _GIB),
    one_host=(4,),
    cores_per_chip=2,
    gke_accelerator='tpu-v5p-slice',
    gcloud_prefix='v5p',
    runtime_version='v2-alpha-tpuv5',
    shapes=_V5P,
  ),
  'v6e': Generation(
    memory_bytes=int(31.25 * _GIB),
    one_host=(1, 4, 8),
    cores_per_chip=1,
    gke_accelerator='tpu-v6e-slice',
    gcloud_prefix='v6e',
    runtime_version='v2-alpha-tpuv6e',
    shapes=_FLAT,
  ),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice of TPU chips.

  Attributes:
    generation: 'v5e'.
    shape: (16, 16): chips along each axis of the interconnect.
    chips: of all hosts; JAX shows each as one device.
    hosts: machines, each of which runs one process.
    memory_bytes: of one chip, as the TPU compiler counts what a program may use.
    gke_labels: of the nodes to select.
    accelerator_type: for gcloud: 'v5litepod-256'.
    runtime_version: of a Cloud TPU VM: 'v2-alpha-tpuv5-lite'.
  """

  generation: str
  shape: tuple[int, ...]
  chips: int
  hosts: int
  chips_per_host: int
  memory_bytes: int
  gke_labels: dict[str, str] = dataclasses.field(hash=False)
  accelerator_type: str
  runtime_version: str

  @property
  def name(self) -> str:
    """'v5e:16x16', which libtpu knows it by, too."""
    return f'{self.generation}:{_join(self.shape)}'


def list_topologies() -> list[str]:
  return [f'{name}:{s}' for name, known in GENERATIONS.items() for s in known.shapes]


def find_topology(name: str) -> Topology:
  """The slice of a name: GENERATION:SHAPE, 'v5e:16x16'.

  Raises:
    ValueError: there is none; the error names those nearest to it.
  """
  generation, colon, shape = name.strip().lower().partition(':')
  if generation not in GENERATIONS:
    raise ValueError(f'no TPU topology {name!r}{_hint(name)}')
  known = GENERATIONS[generation]
  if not colon or shape not in known.shapes:
    raise ValueError(f'no TPU topology {name!r}{_hint_shape(generation, shape)}')
  sizes = _split(shape)
  chips = math.prod(sizes)
  per_host = chips if chips in known.one_host else _CHIPS_PER_HOST
  return Topology(
    generation=generation,
    shape=sizes,
    chips=chips,
    hosts=chips // per_host,
    chips_per_host=per_host,
    memory_bytes=known.memory_bytes,
    gke_labels={
      'cloud.google.com/gke-tpu-accelerator': known.gke_accelerator,
      'cloud.google.com/gke-tpu-topology': shape,
    },
    accelerator_type=_name_type(known, chips),
    runtime_version=known.runtime_version,
  )


def _hint(name: str) -> str:
  """For what is no generation: perhaps gcloud's or GKE's name for a slice."""
  for generation, known in GENERATIONS.items():
    for shape in known.shapes:
      if name.strip().lower() == _name_type(known, math.prod(_split(shape))):
        return f": that is gcloud's name of {generation}:{shape}"
  return suggest(name, list_topologies() if ':' in name else GENERATIONS)


def _hint_shape(generation: str, shape: str) -> str:
  """For a shape that a generation does not have: those with nearly as many chips."""
  shapes = GENERATIONS[generation].shapes
  try:
    wanted = _split(shape)
  except ValueError:
    return f'; wanted {generation}:SHAPE, with a SHAPE of {", ".join(shapes)}'
  ordered = _join(sorted(wanted))
  if ordered in shapes:
    return f'; did you mean {generation}:{ordered}?'
  chips = math.prod(wanted)
  fewer = [s for s in shapes if math.prod(_split(s)) <= chips][-1:]
  more = [s for s in shapes if math.prod(_split(s)) > chips][:1]
  near = ' or '.join(f'{generation}:{s}' for s in fewer + more)
  return f' of {chips} chips; the nearest are {near} (shapes: {", ".join(shapes)})'


def _name_type(known: Generation, chips: int) -> str:
  return f'{known.gcloud_prefix}-{chips * known.cores_per_chip}'


def _split(shape: str) -> tuple[int, ...]:
  return tuple(int(size) for size in shape.split('x'))


def _join(shape) -> str:
  return 'x'.join(map(str, shape))
