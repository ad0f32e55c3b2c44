"""The members of an ensemble: networks that one config trains, each by itself.

A config with `members` is the config of all of them, and each member says what it changes:

    cfg.members = {
      'member0': {'stride': 2, 'offset': 0, 'config': {'seed': 0}},
      'member1': {'stride': 2, 'offset': 1, 'config': {'seed': 1}},
    }

The section `clip.eval` outside of the members is the video that the ensemble sees.
"""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence

from launch.config import merge_config
from movinet_jax import data, models, schema
from movinet_jax.models import ensemble
from movinet_jax.names import check_name
from movinet_jax.schema import Count, Natural

_NAME = re.compile(r'member(0|[1-9]\d*)')


@dataclasses.dataclass(frozen=True)
class Member:
  """A network of an ensemble.

  Attributes:
    stride, offset: it sees frames `offset`, `offset + stride`, … of the ensemble's.
    config: what it changes of the ensemble's config.
  """

  stride: Count = 1
  offset: Natural = 0
  config: Mapping = dataclasses.field(default_factory=dict)


def list_members(section: Mapping | None) -> dict[str, Member]:
  """The members by name, in their order, of the section `members` of a config; {} without it.

  Raises:
    ValueError: a name is none of member0, member1, …, or a member is not as `Member` has it.
  """
  section = schema.build(Mapping[str, Mapping] | None, section, 'members') or {}
  for name in section:
    if not _NAME.fullmatch(name):
      raise ValueError(f'members has the name {name!r}; wanted member0, member1 and so on')
  names = sorted(section, key=lambda name: int(name.removeprefix('member')))
  wanted = [f'member{number}' for number in range(len(names))]
  if names != wanted:
    raise ValueError(f'members has {", ".join(names)}; wanted {", ".join(wanted)}')
  return {name: schema.build(Member, section[name], f'members.{name}') for name in names}


def find_member(text: str, names: Collection[str]) -> str:
  """The name of a member that is given by its name or number.

  Raises:
    ValueError: there is no such member.
  """
  name = f'member{text.removeprefix("member")}'
  check_name(name, names, 'member of this ensemble')
  return name


def list_configs(config: Mapping) -> dict[str, dict]:
  """The configs that train the members, by name; {} for a config without any.

  Raises:
    ValueError: see `list_members`; or one changes a section that there is not: names the nearest.
  """
  shared = {key: value for key, value in config.items() if key != 'members'}
  return {
    name: merge_config(shared, member.config, f'members.{name}.config')
    for name, member in list_members(config.get('members')).items()
  }


def check_rate(name: str, member: Member, own: data.EvalClip, whole: data.EvalClip):
  """Checks that a member is evaluated on the frames that the ensemble gives it.

  Args:
    own: its clip.
    whole: the ensemble's.

  Raises:
    ValueError: they are at another rate.
  """
  key = 'fps' if whole.fps else 'stride'
  value = getattr(whole, key)
  wanted = value / member.stride if whole.fps else value * member.stride
  if not math.isclose(getattr(own, key) or 0, wanted):
    found = f'fps={own.fps:g}' if own.fps else f'stride={own.stride}'
    raise ValueError(
      f'{name} takes one frame in {member.stride} of a clip with {key}={value:g}, so its own '
      f'clip.eval has {key}={wanted:g}; got {found}'
    )


def make_model(networks: Sequence, parts: Sequence[Member], clips: Sequence, clip: data.EvalClip):
  """The ensemble of networks.

  Args:
    networks: the network of each member.
    parts: what each sees of the ensemble's video.
    clips: what each was trained to see.
    clip: the ensemble's video. A member whose own pictures have another size gets these resized.

  Raises:
    ValueError: the networks cannot be members of one ensemble.
  """
  spec = ensemble.Spec(
    tuple(
      ensemble.Member(
        network.spec,
        part.stride,
        part.offset,
        None if own.size == clip.size else own.size,
        models.name_family(network),
      )
      for network, part, own in zip(networks, parts, clips, strict=True)
    ),
    frames=clip.frames,
    resolution=clip.size,
    frame_stride=clip.stride or ensemble.NATIVE_FPS / clip.fps,
  )
  dtypes = {network.dtype for network in networks}
  options = {'dtype': dtypes.pop()} if len(dtypes) == 1 else {}
  return models.create('ensemble', networks[0].num_classes, spec=spec, **options)


def find_own_clip(clip: data.EvalClip, part: ensemble.Member) -> data.EvalClip:
  """What a member sees of the ensemble's video."""
  size = part.resolution or clip.size
  return dataclasses.replace(
    clip,
    frames=max(1, -(-(clip.frames - part.offset) // part.stride)),
    size=size,
    short_side=round(clip.short_side * size / clip.size),
    fps=clip.fps and clip.fps / part.stride,
    stride=clip.stride and clip.stride * part.stride,
  )


def find_clip(clips: Sequence[data.EvalClip], parts: Sequence[Member]) -> data.EvalClip:
  """The video that an ensemble of trained networks sees.

  Each member gets the frame rate that it was trained at. The video is as long and as large as the
  member needs that needs most.

  Raises:
    ValueError: there is none, because their rates differ.
  """
  rates = []
  for clip, part in zip(clips, parts, strict=True):
    rate = clip.fps * part.stride if clip.fps else clip.stride / part.stride
    rates.append(('fps' if clip.fps else 'stride', rate))
  (key, rate), *_ = rates
  if any(other != key or not math.isclose(value, rate) for other, value in rates):
    found = ', '.join(f'{other}={value:g}' for other, value in rates)
    raise ValueError(
      f'the members see videos at different rates, of which an ensemble would need {found}: choose '
      'strides that agree, or say which `clip` it sees'
    )
  if key == 'stride' and rate != int(rate):
    raise ValueError(
      f'the members were trained with a stride of {clips[0].stride}, which their stride of '
      f'{parts[0].stride} in the ensemble does not divide: train them at that stride, or say which '
      '`clip` the ensemble sees'
    )
  largest = max(clips, key=lambda clip: (clip.size, clip.short_side))
  frames = max(clip.frames * part.stride for clip, part in zip(clips, parts, strict=True))
  given = {key: int(rate) if key == 'stride' else rate}
  return data.EvalClip(frames, largest.size, largest.short_side, **given)
