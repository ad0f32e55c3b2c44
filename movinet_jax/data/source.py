"""What a dataset is to the pipeline: records, label names and a fingerprint."""

import csv
import dataclasses
import hashlib
import io
import json
import numbers
import os
import re
from collections.abc import Iterator, Sequence
from typing import TextIO

import numpy as np

from movinet_jax.data.frames import FrameFolder
from movinet_jax.data.labels import list_names, read_list
from movinet_jax.data.spelling import spell_label, spell_raw
from movinet_jax.names import suggest

# What FFmpeg opens as moving pictures; of several for one container, the usual ones.
_SUFFIXES = """
mp4 m4v mp4v mov qt mqv 3gp 3gpp 3g2 f4v ismv mj2 insv lrv
mkv mk3d webm avi divx xvid wmv asf wm dvr-ms wtv flv ogv ogm rm rmvb nut nsv mxf gxf y4m ivf
mpg mpeg mpe mpv m1v m2v mp2v m2p vob vro evo mod tod ts mts m2t m2ts tp trp
h261 h263 h264 264 avc h265 265 hevc h266 266 vvc obu vc1 cavs mjpeg mjpg dv dif gif apng amv
roq bik smk fli flc nuv dav
"""
VIDEO_SUFFIXES = frozenset(f'.{suffix}' for suffix in _SUFFIXES.split())

# What systems, network disks and archivers leave in folders, in small letters.
_OF_SYSTEMS = """
__macosx / @eadir / #recycle / @recycle / $recycle.bin / system volume information / lost+found /
thumbs.db / ehthumbs.db / desktop.ini / icon\r
"""
_OF_SYSTEMS = frozenset(name.strip(' \n') for name in _OF_SYSTEMS.split('/'))


class SourceError(ValueError):
  """A dataset that cannot be used as given: its files, labels or arguments."""


@dataclasses.dataclass(frozen=True)
class Record:
  """One video: a path, a whole file's bytes or a folder of pictures; its label and its name.

  The name tells the video from all others of its dataset, and prints on one line.
  """

  video: str | bytes | FrameFolder
  label: int | tuple[int, ...]  # a tuple of class numbers where videos have several
  name: str


@dataclasses.dataclass(frozen=True)
class Source:
  """A dataset; picklable, so that loader processes can have it.

  Attributes:
    records: anything with `len` and `[i] -> Record`. Where that reads a video from a file,
      `list_labels()` gives the label of each without reading any; see `list_labels`.
    labels: the name of each class number.
    digest: names and labels of all records, hashed; no folder of this machine in it.
    multi_label: whether labels are tuples of class numbers.
    skipped: names left out because a manifest of bad files lists them.
    short_side: to how many pixels its pictures were shrunk when it was built; None where
      they were not, or nobody wrote it down.
    notes: what a person should know before it is used, such as files that are not taken.
  """

  records: Sequence[Record]
  labels: tuple[str, ...]
  digest: str
  multi_label: bool = False
  skipped: tuple[str, ...] = ()
  short_side: int | None = None
  notes: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.records)

  def fingerprint(self) -> str:
    """Equal for equal data, here and on another machine, today and tomorrow."""
    return self.digest


def make_source(
  records: Sequence[Record],
  labels: Sequence[str],
  *,
  multi_label: bool = False,
  skip: str | None = None,
  notes: Sequence[str] = (),
) -> Source:
  """Checks the records, leaves out those a manifest lists, and hashes the rest.

  Args:
    records: in the order in which they shall be numbered.
    labels: the name of each class number.
    multi_label: whether labels are tuples.
    skip: path of a manifest of bad files, as `movinet check-data` writes it.
    notes: see Source.

  Raises:
    SourceError: no records, a name twice, a label out of range.
  """
  check_records(records, labels)
  bad = read_bad_names(skip) if skip else frozenset()
  kept = [r for r in records if r.name not in bad]
  skipped = tuple(r.name for r in records if r.name in bad)
  if not kept:
    raise SourceError(f'all {len(records)} videos are listed as bad in {skip}')
  digest = make_digest(((r.name, r.label) for r in kept), labels)
  return Source(tuple(kept), tuple(labels), digest, multi_label, skipped, notes=tuple(notes))


def make_digest(rows, labels: Sequence[str]) -> str:
  """Hashes (name, label) rows and the label names."""
  hashed = hashlib.sha256(json.dumps(list(labels)).encode())
  for name, label in rows:
    hashed.update(json.dumps([name, label]).encode())
  return hashed.hexdigest()[:32]


def split_source(source: Source, share: float, *, seed: int = 0) -> tuple[Source, Source]:
  """Divides a dataset by lot: the larger rest, and about `share` of it.

  Raises:
    SourceError: one of them would be empty.
  """
  if not isinstance(share, numbers.Real) or not 0 < share < 1:
    raise SourceError(
      f'the share held out is {share!r}: both parts need some, so a number between 0 and 1'
    )
  count = round(share * len(source))
  if not 0 < count < len(source):
    raise SourceError(
      f'{share:g} of {len(source)} videos leaves {len(source) - count} and {count}: both '
      'parts need some'
    )
  order = np.random.default_rng(seed).permutation(len(source))
  parts = np.sort(order[count:]), np.sort(order[:count])
  return tuple(_take(source, part, f'{share:g} {seed} {i}') for i, part in enumerate(parts))


def _take(source, numbers, how):
  digest = hashlib.sha256(f'{source.digest} {how}'.encode()).hexdigest()[:32]
  records = Part(source.records, tuple(numbers.tolist()))
  return dataclasses.replace(source, records=records, digest=digest)


@dataclasses.dataclass(frozen=True)
class Part(Sequence):
  """Some of the records, by their numbers; none is read before it is asked for."""

  records: Sequence[Record]
  numbers: tuple[int, ...]

  def __len__(self) -> int:
    return len(self.numbers)

  def __getitem__(self, index: int) -> Record:
    return self.records[self.numbers[index]]

  def list_labels(self) -> list:
    labels = list_labels(self.records)
    return [labels[number] for number in self.numbers]

  @property
  def is_listed(self) -> bool:
    return is_listed(self.records)


def list_labels(records: Sequence[Record]) -> list:
  """The label of each record, without reading a video where the records list their labels."""
  if hasattr(records, 'list_labels'):
    return records.list_labels()
  return [record.label for record in records]


def is_listed(records: Sequence[Record]) -> bool:
  """Tells whether `list_labels` is quick: it reads no video."""
  return getattr(records, 'is_listed', True)


def check_records(records: Sequence[Record], labels: Sequence[str]):
  if not records:
    raise SourceError('the dataset has no videos')
  seen = {}
  for number, record in enumerate(records, 1):
    if record.name in seen:
      raise SourceError(
        f'{record.name!r} is there twice, as record {seen[record.name]} and {number}'
      )
    seen[record.name] = number
    several = isinstance(record.label, tuple)
    for label in record.label if several else (record.label,):
      if not 0 <= label < len(labels):
        raise SourceError(
          f'{record.name!r} has label {label}, outside 0 to {len(labels) - 1} '
          f'({len(labels)} classes)'
        )


def read_bad_names(path: str) -> frozenset[str]:
  """Names of the bad files in a manifest: CSV with the columns name and reason.

  Files with an empty reason are good.

  Raises:
    SourceError: no such file, or no manifest.
  """
  header, rows = parse_rows(open_text(path, 'manifest of bad files').read(), path)
  if not {'name', 'reason'} <= set(header):
    raise SourceError(
      f'{path}: a manifest starts with the header name,reason; got {",".join(header)!r}. Make '
      'one with `movinet check-data`'
    )
  # A file that was mended and checked again has a later row.
  reasons = {row['name']: row.get('reason') for row in rows if 'name' in row}
  return frozenset(name for name, reason in reasons.items() if reason)


# A carriage return that ends no line, and what stands for it, which is in no UTF-8 text.
_BARE_RETURN, _STAND_IN = re.compile('\r(?!\n)'), '\udc0d'


def parse_rows(text: str, path: str) -> tuple[list[str], list[dict[str, str]]]:
  """The header of a manifest, and its rows; a row that was cut off lacks fields.

  Older manifests hold names that do not print as they are: here they are spelled. Python's csv
  cannot read a bare carriage return.

  Raises:
    SourceError: it is no CSV.
  """
  lines = split_rows(io.StringIO(_BARE_RETURN.sub(_STAND_IN, text), newline=''), path)
  _, header = next(lines, (1, []))
  rows = []
  for _, fields in lines:
    if fields:
      fields = [spell_raw(field.replace(_STAND_IN, '\r')) for field in fields]
      rows.append(dict(zip(header, fields, strict=False)))
  return header, rows


def split_rows(file: TextIO, path: str, **form) -> Iterator[tuple[int, list[str]]]:
  """(line number, fields) of each row of a CSV file; no fields where a line is empty.

  Args:
    file: its text.
    path: how errors call it.
    **form: of the rows, as csv.reader takes it.

  Raises:
    SourceError: it is no CSV, such as where a quote is not closed.
  """
  # Strict: else a quote that is not closed takes in all rows behind it without a word.
  reader, line = csv.reader(file, strict=True, **form), 1
  try:
    for fields in reader:
      yield line, fields
      line = reader.line_num + 1
  except csv.Error as error:
    raise SourceError(f'{path} line {line}: {error} (a quote that is not closed?)') from error


def read_labels(labels: str | Sequence[str] | None) -> tuple[str, ...] | None:
  """Label names, given or in a text file with one name a line; None stays None.

  In place of a file, a name of `data.labels` such as 'kinetics600' is that data set's list. Label
  names that differ only in Unicode's normal form are one.
  """
  if labels is None:
    return None
  if isinstance(labels, str) and labels in list_names():
    labels = read_list(labels)
  if isinstance(labels, str):
    with open_text(labels, 'label map') as file:
      labels = [line.rstrip('\r\n') for line in file]
    while labels and not labels[-1]:
      labels.pop()
  labels = tuple(map(spell_label, labels))
  if not labels or '' in labels:
    raise SourceError('a label map holds one name a line and no empty line')
  if len(set(labels)) < len(labels):
    twice = next(name for name in labels if labels.count(name) > 1)
    raise SourceError(f'the label map holds {twice!r} twice')
  return labels


def find_label(text: str, numbers: dict[str, int], where: str) -> int:
  """The number of a label name; an error names the row and the nearest known name.

  Args:
    numbers: by label, as `read_labels` gives them.
  """
  text = spell_label(text)
  if text in numbers:
    return numbers[text]
  raise SourceError(f'{where}: unknown label {text!r}{suggest(text, numbers)}')


def list_folder(path: str) -> list[os.DirEntry]:
  """Entries of a folder by name, without hidden ones and those that systems leave behind.

  Raises:
    SourceError: no such folder, no folder, or no right to read it.
  """
  try:
    with os.scandir(path) as entries:
      visible = [entry for entry in entries if not is_hidden(entry.name)]
  except OSError as error:
    raise SourceError(f'cannot read the folder {spell_raw(path)}: {error.strerror}') from error
  return sorted(visible, key=lambda entry: entry.name)


def is_hidden(name: str) -> bool:
  """Tells whether a file or folder is none of a person's: hidden, or left by a system."""
  return name.startswith('.') or name.lower() in _OF_SYSTEMS


def open_text(path: str, what: str):
  """Reads a regular text file; a byte order mark, as Excel writes it, is dropped."""
  try:
    if os.path.exists(path) and not os.path.isfile(path):
      raise SourceError(f'{what} {path} is not a regular file')
    with open(path, newline='', encoding='utf-8-sig') as file:
      return io.StringIO(file.read(), newline='')
  except UnicodeDecodeError as error:
    raise SourceError(
      f'the {what} {path} is not UTF-8 text ({error.reason} at byte {error.start}): save '
      'it as UTF-8'
    ) from error
  except OSError as error:
    raise SourceError(f'cannot read the {what} {path}: {error.strerror}') from error
