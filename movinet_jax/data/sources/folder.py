"""A folder of videos, one sub-folder per class: `root[/split]/CLASS/anything.mp4`."""

import collections
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence

from movinet_jax.data import frames
from movinet_jax.data import source as sources
from movinet_jax.data.source import Record, Source, SourceError
from movinet_jax.data.spelling import spell, spell_label
from movinet_jax.names import suggest
from movinet_jax.schema import LocalPath

# Files beside videos of which nobody thinks that they are videos.
_OTHERS = """
txt csv tsv json jsonl xml yaml yml toml ini cfg log md rst html htm pdf doc docx xls xlsx
srt vtt ass ssa sub idx lrc nfo jpg jpeg png bmp tif tiff ico svg heic psd
wav mp3 m4a aac flac wma opus oga npy npz pt pth h5 hdf5 pkl py sh ipynb md5 sha1 sha256 url lnk db
"""
_OTHER_SUFFIXES = frozenset(f'.{suffix}' for suffix in _OTHERS.split())


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
    A Source whose names are `CLASS/file`, in alphabetical order. Its notes tell of files that
    have no suffix of a video.

  Raises:
    SourceError: no such folder, an empty class, an unknown class, a stray video.
  """
  home = find_home(root, split)
  entries = sources.list_folder(home)
  stray = [e.name for e in entries if _is_video(e.name) and not e.is_dir()]
  if stray:
    raise SourceError(
      f'{home} holds videos outside class folders, such as {stray[0]!r}; '
      'wanted CLASS/video, or use a CSV file of path,label'
    )
  classes = find_classes(home, entries, 'video.mp4')
  names = sources.read_labels(labels) or tuple(classes)
  records, others = [], [spell(e.name) for e in entries if not e.is_dir() and _is_odd(e.name)]
  for number, folder in number_folders(classes, names):
    videos, odd = _list_videos(folder)
    records += [Record(path, number, name_record(path)) for path in videos]
    others += map(name_record, odd)
  notes = [*find_twins(classes), *_tell_others(home, others, len(records))]
  return sources.make_source(records, names, skip=skip, notes=notes)


def find_home(root: str, split: str | None) -> str:
  """The folder that holds the class folders.

  Raises:
    SourceError: there is no such split.
  """
  home = os.path.join(root, split) if split else root
  if split and not os.path.isdir(home):
    there = [entry.name for entry in sources.list_folder(root) if entry.is_dir()]
    raise SourceError(f'{root} has no split {split!r}{suggest(split, there)}')
  return home


def find_classes(home: str, entries: Sequence[os.DirEntry], wanted: str) -> dict[str, list[str]]:
  """Class folders by label: most often one, or several whose names look the same.

  Args:
    entries: of home.
    wanted: what a class folder holds.

  Raises:
    SourceError: there are none.
  """
  classes = collections.defaultdict(list)
  for entry in entries:
    if entry.is_dir():
      classes[spell_label(spell(entry.name))].append(entry.path)
  if not classes:
    raise SourceError(f'{home} has no class folders; wanted CLASS/{wanted} in it')
  return dict(sorted(classes.items()))


def number_folders(
  classes: Mapping[str, Sequence[str]], names: Sequence[str]
) -> Iterator[tuple[int, str]]:
  """(class number, class folder), by label.

  Args:
    classes: folders by label.
    names: the label of each number.

  Raises:
    SourceError: a folder is of none of these.
  """
  numbers = {name: number for number, name in enumerate(names)}
  for label, folders in classes.items():
    for folder in folders:
      yield sources.find_label(label, numbers, f'class folder {folder}'), folder


def find_twins(labels: Sequence[str]) -> list[str]:
  """A note on labels that differ only in capital and small letters."""
  alike = collections.defaultdict(list)
  for label in labels:
    alike[label.casefold()].append(label)
  twins = [' and '.join(map(repr, some)) for some in alike.values() if len(some) > 1]
  if not twins:
    return []
  return [
    f'class folders that differ only in case are classes of their own: {", ".join(twins)}; a '
    'disk that ignores case would merge them'
  ]


def name_record(path: str) -> str:
  """CLASS/file of a path."""
  return spell(os.sep.join(path.split(os.sep)[-2:]))


def _list_videos(folder: str) -> tuple[list[str], list[str]]:
  """The videos of a class folder, and files that may be videos by their suffix or not."""
  entries = sources.list_folder(folder)
  videos = [e.path for e in entries if _is_video(e.name) and not e.is_dir()]
  inner = next((entry for entry in entries if entry.is_dir()), None)
  if inner:
    split = os.path.basename(folder)
    message = (
      f'class folder {folder} holds the folder {inner.name!r}; wanted videos only. '
      f'If {split!r} is a split rather than a class, pass split={split!r}'
    )
    if any(frames.is_picture(entry.name) for entry in sources.list_folder(inner.path)):
      message += (
        f". If {inner.name!r} holds the pictures of one video, name='frames' with fps=RATE reads it"
      )
    raise SourceError(message)
  if not videos:
    suffixes = sorted({os.path.splitext(e.name)[1] or e.name for e in entries})
    found = f'only {", ".join(map(spell, suffixes))}' if suffixes else 'nothing'
    raise SourceError(f'class folder {folder} has no videos: it holds {found}')
  return videos, [e.path for e in entries if not e.is_dir() and _is_odd(e.name)]


def _tell_others(home: str, others: Sequence[str], videos: int) -> list[str]:
  """A note on files that are left out, which may be videos."""
  if not others:
    return []
  kinds = collections.Counter(os.path.splitext(name)[1].lower() or 'no suffix' for name in others)
  told = ', '.join(f'{kind} {count}' for kind, count in kinds.most_common(8))
  told += ', …' if len(kinds) > 8 else ''
  count = f'{len(others)} of {len(others) + videos} files in {home}'
  if len(others) == 1:
    return [f'{count} is not taken, because it has no suffix of a video ({told}): {others[0]}']
  return [
    f'{count} are not taken, because they have no suffix of a video ({told}), such as '
    f'{", ".join(itertools.islice(others, 3))}'
  ]


def _is_video(name: str) -> bool:
  return os.path.splitext(name)[1].lower() in sources.VIDEO_SUFFIXES


def _is_odd(name: str) -> bool:
  """Tells whether a name is neither that of a video nor plainly that of something else."""
  suffix = os.path.splitext(name)[1].lower()
  return suffix not in sources.VIDEO_SUFFIXES and suffix not in _OTHER_SUFFIXES
