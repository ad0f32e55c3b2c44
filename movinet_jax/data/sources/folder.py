"""A folder of videos, one sub-folder per class: `root[/split]/CLASS/anything.mp4`."""

import os

from movinet_jax.data import source as sources
from movinet_jax.data.source import Record, Source, SourceError
from movinet_jax.names import suggest
from movinet_jax.schema import LocalPath


def open_source(
  root: LocalPath,
  split: str | None = None,
  labels: LocalPath | tuple[str, ...] | None = None,
  skip: LocalPath | None = None,
) -> Source:
  """Lists the videos of a folder.

  Args:
    root: the folder.
    split: the sub-folder of root that holds the class folders, if it is not root itself.
    labels: the label map (names, or a file of them) of the training set; by default the
      class folders in alphabetical order. Every class folder must be in it. Classes of
      the map without a folder are fine: a test set need not have them all.
    skip: manifest of bad files.

  Returns:
    A Source whose names are `CLASS/file`, in alphabetical order.

  Raises:
    SourceError: no such folder, an empty class, an unknown class, a stray video.
  """
  home = os.path.join(root, split) if split else root
  if split and not os.path.isdir(home):
    there = [entry.name for entry in sources.list_folder(root) if entry.is_dir()]
    raise SourceError(f'{root} has no split {split!r}{suggest(split, there)}')
  classes = _list_classes(home)
  names = sources.read_labels(labels) or tuple(classes)
  numbers = {name: number for number, name in enumerate(names)}
  records = []
  for label, folder in classes.items():
    number = sources.find_label(label, numbers, f'class folder {folder}')
    records += [
      Record(path, number, f'{label}/{os.path.basename(path)}') for path in _list_videos(folder)
    ]
  return sources.make_source(records, names, skip=skip)


def _list_classes(home: str) -> dict[str, str]:
  entries = sources.list_folder(home)
  stray = [e.name for e in entries if _is_video(e.name) and not e.is_dir()]
  if stray:
    raise SourceError(
      f'{home} holds videos outside class folders, such as {stray[0]!r}; '
      'wanted CLASS/video, or use a CSV file of path,label'
    )
  classes = {entry.name: entry.path for entry in entries if entry.is_dir()}
  if not classes:
    raise SourceError(f'{home} has no class folders; wanted CLASS/video.mp4 in it')
  return classes


def _list_videos(folder: str) -> list[str]:
  entries = sources.list_folder(folder)
  videos = [e.path for e in entries if _is_video(e.name) and not e.is_dir()]
  inner = [entry.name for entry in entries if entry.is_dir()]
  if inner:
    split = os.path.basename(folder)
    raise SourceError(
      f'class folder {folder} holds the folder {inner[0]!r}; wanted videos only. '
      f'If {split!r} is a split rather than a class, pass split={split!r}'
    )
  if not videos:
    suffixes = sorted({os.path.splitext(e.name)[1] or e.name for e in entries})
    found = f'only {", ".join(suffixes)}' if suffixes else 'nothing'
    raise SourceError(f'class folder {folder} has no videos: it holds {found}')
  return videos


def _is_video(name: str) -> bool:
  return os.path.splitext(name)[1].lower() in sources.VIDEO_SUFFIXES
