"""Whether a dataset's pictures are as large as the clips that are cut out of them."""

from collections.abc import Mapping

from movinet_jax.data.clip import Clip
from movinet_jax.data.reader import probe
from movinet_jax.data.source import Source
from movinet_jax.data.video import DecodeError

# Videos to look into where a dataset does not say how large its pictures are.
PROBED = 8


def find_short_side(source: Source) -> int | None:
  """The shorter side of a dataset's pictures, in pixels.

  A dataset that was built with --short-side says it. Of others this is the largest of the first
  few videos; None where none of these can be decoded.
  """
  if source.short_side is not None:
    return source.short_side
  sides = []
  for index in range(min(PROBED, len(source))):
    record = source.records[index]
    try:
      info = probe(record.video, name=record.name)
    except DecodeError:
      continue  # the loader counts it, and names it
    sides.append(min(info.width, info.height))
  return max(sides, default=None)


def find_notes(sources: Mapping[str, Source], clips: Mapping[str, Clip]) -> list[str]:
  """What a person should know of the data before it is used, each once.

  Args:
    sources, clips: by split, such as 'train' and 'eval'.
  """
  own = [note for source in sources.values() for note in source.notes]
  return list(dict.fromkeys([*own, *find_enlarged(sources, clips)]))


def find_enlarged(sources: Mapping[str, Source], clips: Mapping[str, Clip]) -> list[str]:
  """A note on each split whose pictures are smaller than its clip wants.

  Args:
    sources, clips: by split, such as 'train' and 'eval'.
  """
  notes = []
  for split in sorted(sources.keys() & clips.keys()):
    found, wanted = find_short_side(sources[split]), clips[split].least_side
    if found is None or found >= wanted:
      continue
    mend = 'take a smaller clip'
    if sources[split].short_side is not None:
      mend = f'build the dataset with --short-side {wanted}, or {mend}'
    notes.append(
      f'the pictures for {split} have {found} pixels on their shorter side and its clip wants '
      f'{wanted}, so they are enlarged: {mend}'
    )
  return notes
