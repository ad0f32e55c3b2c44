"""A table of videos: a CSV file of `path,label`, with or without that header.

Fields with a comma in them are quoted. With a header there may be other columns, too.

dances/tango.mp4,tango              names of classes, sorted into numbers; or
dances/tango.mp4,17                 numbers, if every label is one; or
dances/tango.mp4,tango;couple       several at once

The separator may also be a semicolon, a tab, or the last space before a label of one word. The
first row tells which it is, or a line such as `sep=;` before it, as Excel writes it.
"""

import functools
import io
import os
import re
from collections.abc import Callable, Iterator

from movinet_jax.data import source as sources
from movinet_jax.data.frames import FrameFolder, Rate
from movinet_jax.data.source import Record, Source, SourceError
from movinet_jax.data.spelling import spell, spell_label
from movinet_jax.schema import LocalPath

_SEPARATORS = {',': 'comma', ';': 'semicolon', '\t': 'tab', ' ': 'space'}
_NUMBER = re.compile(r'[-+]?\d+\.?\d*')
_OF_EXCEL = re.compile('"?sep=(.)"?(?=\r?\n|$)', re.IGNORECASE)
# A larger label is a date or an id: classes without a video are listed up to here.
_MOST_LABELS_A_ROW, _LABELS_OF_ANY = 10, 1000
_MOST_DIGITS = 18


def open_source(
  path: LocalPath,
  root: LocalPath | None = None,
  labels: LocalPath | tuple[str, ...] | None = None,
  multi_label: bool | None = None,
  skip: LocalPath | None = None,
  fps: Rate | None = None,
) -> Source:
  """Reads a table; the videos themselves are not opened.

  Args:
    path: the CSV file. Fields may be quoted.
    root: where relative paths start; default: the folder of the CSV file.
    labels: the label map (names, or a file of them) of the training set. Default: the
      sorted names in the table, or `0`, `1`, … up to the largest number in it.
    multi_label: whether videos have several labels (separated by `;`, or by `|` where `;`
      separates the columns), or none at all. Default: whether any row has several; only then
      may a label be empty.
    skip: manifest of bad files.
    fps: pictures a second, if each path is a folder of pictures; see sources.frames.

  Raises:
    SourceError: names the line: missing column, unknown or out-of-range label, path
      twice; an empty class; or a separator that cannot be told.
  """
  home = os.path.dirname(os.path.abspath(path)) if root is None else root
  is_folder = fps is not None
  is_video = functools.cache(functools.partial(_is_video, home, is_folder))
  rows = _read_rows(path, is_video, is_folder)
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
  names = given or _name_labels(rows, numeric, path)
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
    records.append(Record(FrameFolder(video, fps) if fps else video, label, spell(name)))
  return sources.make_source(records, names, multi_label=multi_label, skip=skip)


def _is_video(home: str, is_folder: bool, field: str) -> bool:
  """Tells whether a field names a video, or a folder of pictures."""
  path = os.path.join(home, field)
  if is_folder:
    return bool(field) and os.path.isdir(path)
  return os.path.splitext(field)[1].lower() in sources.VIDEO_SUFFIXES or os.path.isfile(path)


def _read_rows(path: str, is_video: Callable, is_folder: bool) -> list[tuple[int, str, list[str]]]:
  """(line number, path, labels) of each row."""
  text, separator = _take_separator(path, sources.open_text(path, 'table').read())
  separator = separator or _find_separator(path, text, is_video)
  found = list(_read_fields(path, text, separator))
  if not found:
    raise SourceError(f'{path} has no rows; wanted lines of path,label')
  first = found[0][1]
  columns = _find_columns(path, [row for _, row in found], separator, is_video, is_folder)
  if columns is None:
    _check_order(path, found, separator, is_video, is_folder)
    columns, width = (0, 1), 2
  else:
    found, width = found[1:], len(first)
  rows = []
  for line, fields in found:
    name = fields[columns[0]] if len(fields) == width else ''
    if not name or (separator == ' ' and _has_label_of_words(name, is_video, is_folder)):
      raise SourceError(_explain_row(path, line, fields, separator, width))
    several = '|' if separator == ';' else ';'
    texts = [spell_label(text.strip()) for text in fields[columns[1]].split(several)]
    rows.append((line, name, [text for text in texts if text]))
  if not rows:
    raise SourceError(f'{path} has no rows; wanted lines of path,label')
  return rows


def _take_separator(path: str, text: str) -> tuple[str, str | None]:
  """The text without the separator that Excel names in a line before the table, and that."""
  if not (match := _OF_EXCEL.match(text)):
    return text, None
  if match[1] not in _SEPARATORS:
    raise SourceError(
      f'{path} line 1: {match[0]!r} names a separator that is none of comma, semicolon, tab and '
      'space: save the table with one of them'
    )
  return text[match.end() :], match[1]  # the empty line that is left keeps lines their numbers


def _has_label_of_words(name: str, is_video: Callable, is_folder: bool) -> bool:
  """Whether a path before the last space holds words of a label, too.

  A folder of pictures has no suffix to tell. One that is missing is a bad video, unless the path
  without its last words is a folder.
  """
  if not is_folder or is_video(name):
    return not is_video(name)
  words = name.split(' ')
  return any(is_video(' '.join(words[:count]).strip()) for count in range(1, len(words)))


def _check_order(path: str, rows, separator: str, is_video: Callable, is_folder: bool):
  """Fails where labels come before paths in (line number, fields) of a table without a header."""

  def is_swapped(row) -> bool:
    first, second = row[1] if len(row[1]) == 2 else ('', '')
    is_own_class = first.startswith(f'{second}/')  # of a folder that is missing
    return is_video(second) and not is_video(first) and not is_own_class

  # A folder may be called as a label, so one row of folders proves nothing.
  if is_folder and not all(map(is_swapped, rows)):
    return
  for line, fields in filter(is_swapped, rows):
    raise SourceError(
      f'{path} line {line}: the columns are swapped: {fields[1]!r} is a video and {fields[0]!r} '
      f'is none; wanted path{separator}label, or the header label{separator}path'
    )


def _find_separator(path: str, text: str, is_video: Callable) -> str:
  """What separates the columns, as the first row shows it: the header, or a video's path."""
  first = {separator: _read_first(path, text, separator) for separator in _SEPARATORS}
  for separator, fields in first.items():
    if _has_header(fields):
      return separator
  split = [separator for separator, fields in first.items() if len(fields) > 1]
  fits = [separator for separator in split if is_video(first[separator][0])]
  if len(fits) > 1:
    ways = ' or '.join(f'{first[one][0]!r} before a {_SEPARATORS[one]}' for one in fits)
    raise SourceError(
      f'{path}: the first path may be {ways}: quote it, or begin with the header path,label'
    )
  # Where none fits, the rows tell what is wrong.
  return next(iter([*fits, *split]), ',')


def _read_first(path: str, text: str, separator: str) -> list[str]:
  try:
    return next(_read_fields(path, text, separator), (1, []))[1]
  except SourceError:  # quotes that are those of another separator
    return []


def _read_fields(path: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
  """(line number, fields) of each line that is not empty."""
  if separator == ' ':
    for line, row in enumerate(text.splitlines(), 1):
      if row.strip():
        yield line, [field.strip() for field in row.strip().rsplit(' ', 1)]
    return
  file = io.StringIO(text, newline='')
  for line, fields in sources.split_rows(file, path, delimiter=separator, skipinitialspace=True):
    fields = [field.strip() for field in fields]
    if any('\n' in field for field in fields):
      raise SourceError(f'{path} line {line}: a quote is not closed')
    if any(fields):
      yield line, fields


def _has_header(fields: list[str]) -> bool:
  return {'path', 'label'} <= {field.lower() for field in fields}


def _find_columns(
  path: str, rows: list[list[str]], separator: str, is_video: Callable, is_folder: bool
) -> tuple[int, int] | None:
  """Columns of path and label if the first row is a header."""
  fields = rows[0]
  if _has_header(fields):
    names = [field.lower() for field in fields]
    return names.index('path'), names.index('label')
  # A row that names no video is a header, though not the right one.
  words = ' '.join(fields).split() if separator == ' ' else []
  if any(map(is_video, [*fields, *words])) or (is_folder and _is_row(rows)):
    return None
  what = 'folder' if is_folder else 'file and has no suffix of videos'
  raise SourceError(
    f'{path}: the header must name path and label, got {separator.join(fields)!r}, where '
    f'{fields[0]!r} is no {what}'
  )


def _is_row(rows: list[list[str]]) -> bool:
  """Whether the first row cannot be a header although its folder of pictures is missing.

  Its path has a slash or is a number, or its label is a number or that of another row.
  """
  if len(rows[0]) != 2:
    return False
  name, label = rows[0]
  is_known = any(len(row) == 2 and row[1] == label for row in rows[1:])
  return '/' in name or name.isdecimal() or label.isdecimal() or is_known


def _explain_row(path: str, line: int, fields: list[str], separator: str, width: int) -> str:
  wanted = f'path{separator}label' if width == 2 else f'{width} fields as in the header'
  message = f'{path} line {line}: wanted {wanted}, got {separator.join(fields)!r}'
  if separator == ' ':
    return (
      f'{message}; after a space a label is one word: separate the columns by commas, '
      'semicolons or tabs'
    )
  kind = _SEPARATORS[separator]
  return f'{message}; a field with a {kind} in it is quoted'


def _are_numbers(rows, path: str) -> bool:
  """Whether labels are class numbers; an error if only some are, or one is below 0."""
  first = {}
  for line, _, texts in rows:
    for text in texts:
      if text.isdecimal() and len(text) > _MOST_DIGITS:
        raise SourceError(
          f'{path} line {line}: label {text[:_MOST_DIGITS]}… has {len(text)} digits, and a class '
          'number is smaller; pass labels= if it is a name'
        )
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


def _name_labels(rows, numeric: bool, path: str) -> tuple[str, ...]:
  lines = {text: line for line, _, texts in rows for text in texts}
  if not lines:
    raise SourceError(f'{path}: no video has a label')
  if not numeric:
    return tuple(sorted(lines))
  used = {int(text): text for text in lines}
  largest = max(used)
  most = _MOST_LABELS_A_ROW * len(rows) + _LABELS_OF_ANY
  if largest > most:
    raise SourceError(
      f'{path} line {lines[used[largest]]}: label {used[largest]} is no class number of a table '
      f'of {len(rows)} videos, which has up to {most}: pass labels= to say which classes there are'
    )
  empty = sorted(set(range(largest + 1)) - used.keys())
  if empty:
    raise SourceError(
      f'{path}: no video has label {empty[0]} although labels go up to {largest} '
      f'({len(empty)} such classes); pass labels= to say which classes there are'
    )
  return tuple(map(str, range(largest + 1)))


def _find(text: str, numbers: dict[str, int], numeric: bool, where: str) -> int:
  if not numeric:
    return sources.find_label(text, numbers, where)
  if int(text) >= len(numbers):
    raise SourceError(
      f'{where}: label {text} is outside 0 to {len(numbers) - 1} ({len(numbers)} classes)'
    )
  return int(text)
