"""Videos as folders of pictures: `root[/split]/CLASS/clip/frame_000001.jpg`."""

import os

from movinet_jax.data import frames
from movinet_jax.data import source as sources
from movinet_jax.data.frames import FrameFolder, Rate
from movinet_jax.data.source import Record, Source, SourceError
from movinet_jax.data.sources import folder
from movinet_jax.schema import LocalPath


def open_source(
  root: LocalPath,
  fps: Rate,
  split: str | None = None,
  labels: LocalPath | tuple[str, ...] | None = None,
  skip: LocalPath | None = None,
) -> Source:
  """Lists the clip folders of class folders; of each class one clip is looked into.

  Args:
    root: the folder.
    fps: pictures a second, the rate at which they were taken out of their videos: a number,
      or a fraction such as '30000/1001'.
    split, labels, skip: see sources.folder.

  Returns:
    A Source whose names are `CLASS/clip`, in alphabetical order.

  Raises:
    SourceError: no such folder, an empty class, an unknown class, pictures or videos that do
      not lie in a clip folder.
  """
  home = folder.find_home(root, split)
  entries = sources.list_folder(home)
  classes = folder.find_classes(home, entries, 'clip/frame_000001.jpg')
  names = sources.read_labels(labels) or tuple(classes)
  records = [
    Record(FrameFolder(path, fps), number, folder.name_record(path))
    for number, one in folder.number_folders(classes, names)
    for path in _list_clips(one)
  ]
  return sources.make_source(records, names, skip=skip, notes=folder.find_twins(classes))


def _list_clips(home: str) -> list[str]:
  """The clip folders of a class folder."""
  entries = sources.list_folder(home)
  wanted = 'wanted CLASS/clip/frame_000001.jpg'
  for entry in entries:
    if entry.is_dir():
      continue
    if frames.is_picture(entry.name):
      raise SourceError(f'class folder {home} holds the picture {entry.name!r}; {wanted}')
    if os.path.splitext(entry.name)[1].lower() in sources.VIDEO_SUFFIXES:
      raise SourceError(
        f"class folder {home} holds the video {entry.name!r}; {wanted}, or name='folder'"
      )
  clips = [entry.path for entry in entries if entry.is_dir()]
  if not clips:
    raise SourceError(f'class folder {home} has no clip folders; {wanted}')
  inside = sources.list_folder(clips[0])
  if not any(frames.is_picture(entry.name) for entry in inside):
    inner = next((entry.name for entry in inside if entry.is_dir()), None)
    split = os.path.basename(home)
    raise SourceError(
      f'the clip folder {clips[0]} holds no pictures'
      + (f' but the folder {inner!r}' if inner else '')
      + f'; {wanted}. If {split!r} is a split rather than a class, pass split={split!r}'
    )
  return clips
