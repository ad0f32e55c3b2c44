"""A table of videos: a CSV file of `path,label`, with or without that header.

Fields with a comma in them are quoted. With a header there may be other columns, too.

dances/tango.mp4,tango              names of classes, sorted into numbers; or
dances/tango.mp4,17                 numbers, if every label is one; or
dances/tango.mp4,tango;couple       several at once
"""

import csv
import os
import re

from movinet_jax.data import source as sources
from movinet_jax.data.source import Record, Source, SourceError
from movinet_jax.schema import LocalPath

_NUMBER = re.compile(r'[-+]?\d+\.?\d*')


def open_source(
  path: LocalPath,
  root: LocalPath | None = None,
  labels: LocalPath | tuple[str, ...] | None = None,
  multi_label: bool | None = None,
  skip: LocalPath | None = None,
) -> Source:
  """Reads a table; the videos themselves are not opened.

  Args:
    path: the CSV file. Fields may be quoted.
    root: where relative paths start; default: the folder of the CSV file.
    labels: the label map (names, or a file of them) of the training set. Default: the
      sorted names in the table, or `0`, `1`, … up to the largest number in it.
    multi_label: whether videos have several labels (separated by `;`, or none at all).
      Default: whether any row has a `;`; only then may a label be empty.
    skip: manifest of bad files.

  Raises:
    SourceError: names the line: missing column, unknown or out-of-range label, path
      twice; or an empty class.
  """
  home = os.path.dirname(os.path.abspath(path)) if root is None else root
  rows = _read_rows(path, home)
  if multi_label is None:
    multi_label = any(len(texts) > 1 for _, _, texts in rows)
  for line, _, texts in rows:
    if len(texts) != 1 and not multi_label:
      raise SourceError(
        f'{path} line {line}: wanted one label, got {texts or "none"}; pass '
        'multi_label=True if videos have several or none'
      )
  given = sources.read_labels(labels)
  all_texts = {text for _, _, texts in rows for text in texts}
  # Names may look like numbers, but only a label map can say that they are names.
  numeric = not all_texts <= set(given or ()) and _are_numbers(rows, path)
  names = given or _name_labels(all_texts, numeric, path)
  numbers = {name: number for number, name in enumerate(names)}
  records, lines = [], {}
  for line, name, texts in rows:
    where = f'{path} line {line}'
    video = os.path.join(home, name)
    before = lines.setdefault(os.path.normpath(video), line)
    if before != line:
      raise SourceError(f'{where}: {name!r} is in line {before} already')
    found = [_find(text, numbers, numeric, where) for text in texts]
    label = tuple(sorted(set(found))) if multi_label else found[0]
    records.append(Record(video, label, name))
  return sources.make_source(records, names, multi_label=multi_label, skip=skip)


def _read_rows(path: str, home: str) -> list[tuple[int, str, list[str]]]:
  """(line number, path, labels) of each row."""
  rows, columns, width = [], (0, 1), 2
  for line, fields in _read_fields(path):
    if not rows and (found := _find_columns(path, fields, home)):
      columns, width = found, len(fields)
      continue
    if len(fields) != width or not fields[columns[0]]:
      wanted = 'path,label' if columns == (0, 1) else f'{width} fields as in the header'
      raise SourceError(
        f'{path} line {line}: wanted {wanted}, got {",".join(fields)!r}; a field with a '
        'comma in it is quoted'
      )
    texts = [text.strip() for text in fields[columns[1]].split(';')]
    rows.append((line, fields[columns[0]], [text for text in texts if text]))
  if not rows:
    raise SourceError(f'{path} has no rows; wanted lines of path,label')
  return rows


def _read_fields(path: str):
  """(line number, fields) of each line that is not empty."""
  with sources.open_text(path, 'table') as file:
    reader, line = csv.reader(file, skipinitialspace=True, strict=True), 1
    try:
      for fields in reader:
        fields = [field.strip() for field in fields]
        if any('\n' in field for field in fields):
          raise SourceError(f'{path} line {line}: a quote is not closed')
        if any(fields):
          yield line, fields
        line = reader.line_num + 1
    except csv.Error as error:
      raise SourceError(f'{path} line {line}: {error} (a quote that is not closed?)') from error


def _find_columns(path: str, fields: list[str], home: str) -> tuple[int, int] | None:
  """Columns of path and label if this first line is a header."""
  names = [field.lower() for field in fields]
  if {'path', 'label'} <= set(names):
    return names.index('path'), names.index('label')
  # A line that names no video is a header, though not the right one.
  suffixes = {os.path.splitext(name)[1] for name in names}
  is_video = suffixes & sources.VIDEO_SUFFIXES
  if not is_video and not os.path.isfile(os.path.join(home, fields[0])):
    raise SourceError(
      f'{path}: the header must name path and label, got {",".join(fields)!r}, where '
      f'{fields[0]!r} is no file and has no suffix of videos'
    )
  return None


def _are_numbers(rows, path: str) -> bool:
  """Whether labels are class numbers; an error if only some are, or one is below 0."""
  first = {}
  for line, _, texts in rows:
    for text in texts:
      if _NUMBER.fullmatch(text) and not text.isdecimal():
        raise SourceError(
          f'{path} line {line}: label {text} is no class number; they are 0, 1, 2, …'
        )
      first.setdefault(text.isdecimal(), (line, text))
  if len(first) == 2:
    raise SourceError(
      f'{path}: label {first[True][1]!r} in line {first[True][0]} is a number and '
      f'{first[False][1]!r} in line {first[False][0]} is a name; pass labels= to say '
      'which classes there are'
    )
  return True in first


def _name_labels(texts: set[str], numeric: bool, path: str) -> tuple[str, ...]:
  if not texts:
    raise SourceError(f'{path}: no video has a label')
  if not numeric:
    return tuple(sorted(texts))
  used = {int(text) for text in texts}
  empty = sorted(set(range(max(used) + 1)) - used)
  if empty:
    raise SourceError(
      f'{path}: no video has label {empty[0]} although labels go up to {max(used)} '
      f'({len(empty)} such classes); pass labels= to say which classes there are'
    )
  return tuple(str(number) for number in range(max(used) + 1))


def _find(text: str, numbers: dict[str, int], numeric: bool, where: str) -> int:
  if not numeric:
    return sources.find_label(text, numbers, where)
  if int(text) >= len(numbers):
    raise SourceError(
      f'{where}: label {text} is outside 0 to {len(numbers) - 1} ({len(numbers)} classes)'
    )
  return int(text)
