"""Ensembles: networks trained apart, whose logits are averaged.

MoViNet, section 3.3 ("Temporal Ensembles"), and supplement B. Members may be of any family. The
one family that is made of others: the only file here that imports its neighbors.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from movinet_jax import layers, schema
from movinet_jax.models import movinet, x3d
from movinet_jax.registry import load_member
from movinet_jax.schema import Count, Natural, Positive
from movinet_jax.spec import from_json

NATIVE_FPS = movinet.NATIVE_FPS
NUM_CLASSES = movinet.NUM_CLASSES


@dataclasses.dataclass(frozen=True)
class Member:
  """A network, and what it sees of the video.

  It sees frames `offset`, `offset + stride`, … with the short side resized to
  `resolution`, or as they are if that is None.

  Attributes:
    spec: the architecture, a Spec of its family or that as JSON.
    family: its name.
  """

  spec: Any
  stride: Count = 1
  offset: Natural = 0
  resolution: Count | None = None
  family: str = 'movinet'

  def __post_init__(self):
    schema.verify(self)
    kind = _find_family(self.family).Spec
    if isinstance(self.spec, Mapping):
      object.__setattr__(self, 'spec', from_json(kind, self.spec))
    if not isinstance(self.spec, kind):
      raise ValueError(
        f'a member of family {self.family!r} has the spec {self.spec!r}: give an architecture of '
        'that family, or the family that it is of'
      )

  @property
  def causal(self) -> bool:
    return self.spec.causal


@dataclasses.dataclass(frozen=True)
class Spec:
  """Members, and the video made for all of them.

  `frames`, `resolution` and `frame_stride` (of video at NATIVE_FPS) are the native input; any
  other works.
  """

  members: tuple[Member, ...]
  frames: Count = 120
  resolution: Count = 320
  frame_stride: Positive = 2

  def __post_init__(self):
    schema.verify(self)
    if self.frame_stride == int(self.frame_stride):  # a file has 2 as it has always had
      object.__setattr__(self, 'frame_stride', int(self.frame_stride))
    if all(member.offset for member in self.members):
      raise ValueError(
        'an ensemble needs members, one of them with offset 0 to answer at the first '
        f'frame; got offsets {[member.offset for member in self.members]}'
      )
    if len({member.causal for member in self.members}) > 1:
      raise ValueError(
        'the members of an ensemble are all streams or none is, got causal='
        f'{[member.causal for member in self.members]}'
      )

  @property
  def causal(self) -> bool:
    return self.members[0].causal


def _find_family(name: str):
  if name == 'ensemble':
    raise ValueError('a member of an ensemble is a network, not an ensemble: name its members')
  return load_member(__package__, name, 'family')


def _a6(suffix: str = '') -> Spec:
  """A4 and A5, each at the resolution and the frame rate that it is trained with.

  Every 3rd and every 2nd frame of 25 fps video: 80 and 120 frames of ten seconds, whose
  105 and 281 G multiply-adds are the 386 of the supplement's tables.
  """
  a4, a5 = (movinet.VARIANTS[name + suffix] for name in ('a4', 'a5'))
  members = Member(a4, stride=3, resolution=a4.resolution), Member(a5, stride=2)
  return Spec(members, frames=240, frame_stride=1)


def _pair(name: str) -> Spec:
  """Two streams at half the frame rate, the second one frame later (section 3.3).

  Each frame is seen by one of them, so a pair has the multiply-adds of one stream at the full
  rate, and the weights and the state of two.
  """
  spec = movinet.VARIANTS[f'{name}-stream']
  members = Member(spec, stride=2), Member(spec, stride=2, offset=1)
  return Spec(members, spec.frames, spec.resolution, spec.frame_stride)


# The papers name A7 and define it nowhere, so this definition is ours: the temporal ensemble of
# section 3.3 made of the largest network.
VARIANTS: dict[str, Spec] = {
  'a6': _a6(),
  'a6-stream': _a6('-stream'),
  'a7-stream': _pair('a5'),
  **{f'{name}-pair-stream': _pair(name) for name in ('t0', 'a0', 'a1', 'a2', 'a3', 'a4', 'a5')},
}

_TINY = movinet.SMALL['base']
_TINIEST = dataclasses.replace(
  _TINY,
  causal=True,
  blocks=(movinet.Block(4, 2, (movinet.Layer((3, 1, 1), 4, se=False),)),),
)
SMALL: dict[str, Spec] = {
  'base': Spec((Member(_TINY), Member(x3d.SMALL['base'], 2, 1, family='x3d'))),
  'stream': Spec((Member(_TINIEST, resolution=10), Member(_TINIEST, stride=2, offset=1))),
}


class Model(nn.Module):
  """An ensemble of any spec; member i's variables are under `member{i}`.

  Args (fields):
    spec: the members.
    num_classes: N, of every member.
    form: how depthwise convolutions are computed (ops.depthwise_conv3d).
    dtype: what is computed in; parameters, statistics and logits are float32.
  """

  spec: Spec
  num_classes: int
  form: str = 'auto'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    """Classifies clips, or the next frames of streams.

    Args:
      x: [B, T, H, W, 3] in [0, 1].
      state: what the previous call returned, None at a video's beginning.
      train: must be False: members are trained apart.

    Returns:
      logits [B, N] float32, the mean of the members that have seen a frame, and the
      state: `frame`, how many frames there were, and for each member its own state and
      its last logits; {} if the members are not causal.

    Raises:
      ValueError: x is not a video, a state is given to networks that are not causal, or
        `train` is set.
    """
    _check_call(self.spec, x, state, train)
    start = state['frame'] if state else 0
    end = start + x.shape[1]
    members = [
      self._continue(i, x, start, state[f'member{i}']) if state else self._begin(i, x)
      for i in range(len(self.spec.members))
    ]
    logits = [member['logits'] for member in members]
    seen = [end > member.offset for member in self.spec.members]
    mean = sum(y * s for y, s in zip(logits, seen, strict=True)) / sum(seen)
    if not self.spec.causal:
      return mean, {}
    after = {f'member{i}': member for i, member in enumerate(members)}
    return mean, {'frame': jnp.asarray(end, jnp.int32), **after}

  def init_state(self, batch, size, dtype=jnp.float32):
    """State of streams that have not begun: zeros for `batch` videos of (height, width)."""
    return layers.init_state(self, batch, (*size, 3), dtype)

  def _network(self, i, **options):
    member = self.spec.members[i]
    model = _find_family(member.family).Model
    options |= {'form': self.form, 'dtype': self.dtype}
    known = model.__dataclass_fields__
    return model(member.spec, self.num_classes, **{k: v for k, v in options.items() if k in known})

  def _begin(self, i, x):
    """Runs a member from the beginning of a video, where its frames are known."""
    member, network = self.spec.members[i], self._network(i, name=f'member{i}')
    # Every network is initialised, also where the clip ends before its first frame.
    offset = 0 if self.is_initializing() else member.offset
    frames = _resize(x[:, offset :: member.stride], member.resolution)
    if frames.shape[1]:
      logits, state = network(frames)
      return {'logits': logits, 'state': state}
    state = {}
    if member.causal:
      twin = self._network(i, parent=None)
      state = twin.init_state(x.shape[0], frames.shape[2:4], x.dtype)
    return {'logits': jnp.zeros((x.shape[0], self.num_classes)), 'state': state}

  def _continue(self, i, x, start, before):
    """Runs a member on later frames. Which are its own is known only when it runs."""
    member = self.spec.members[i]
    # A plain function of its variables can be scanned and skipped.
    network = self._network(i, parent=None)
    variables = {kind: tree[f'member{i}'] for kind, tree in self.variables.items()}

    def run(held, frames):
      frames = _resize(frames, member.resolution)
      logits, state = network.apply(variables, frames, held['state'])
      return {'logits': logits, 'state': state}

    def step(held, numbered):
      number, frame = numbered
      behind = number - member.offset
      turn = (behind >= 0) & (behind % member.stride == 0)
      skip = lambda held, _: held  # noqa: E731
      return lax.cond(turn, run, skip, held, frame[:, None]), None

    if (member.stride, member.offset) == (1, 0):  # All frames: no need for one by one.
      return run(before, x)
    numbers = start + jnp.arange(x.shape[1])
    return lax.scan(step, before, (numbers, jnp.moveaxis(x, 1, 0)))[0]


def join(variables: Sequence[dict]) -> dict:
  """Makes an ensemble's variables of those of its members, in their order."""
  kinds = dict.fromkeys(kind for member in variables for kind in member)
  return {
    kind: {f'member{i}': member[kind] for i, member in enumerate(variables)} for kind in kinds
  }


def _resize(x: jax.Array, resolution: int | None) -> jax.Array:
  """Gives frames [B, T, H, W, C] a short side of `resolution`, keeping their shape."""
  b, t, h, w, c = x.shape
  if resolution in (None, min(h, w)):
    return x
  size = tuple(round(n * resolution / min(h, w)) for n in (h, w))
  if not t:  # no frame yet, but their shape is that of the stream to come
    return jnp.zeros((b, t, *size, c), x.dtype)
  return jax.image.resize(x, (b, t, *size, c), 'bilinear', antialias=True)


def _check_call(spec, x, state, train):
  if x.ndim != 5:
    raise ValueError(f'an ensemble takes video [B, T, H, W, 3], got {x.shape}')
  if state and not spec.causal:
    raise ValueError(
      'the members of this ensemble are not causal, so it has no stream state: give it '
      'the whole clip, or build the stream variant'
    )
  if train:
    raise ValueError(
      'the members of an ensemble are trained apart: train each, then use '
      'movinet_jax.models.ensemble.join on their variables'
    )
