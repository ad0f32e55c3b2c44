"""A table of videos: a CSV file of `path,label`, with or without that header.

dances/tango.mp4,tango              names of classes, sorted into numbers; or
dances/tango.mp4,17                 numbers, if every label is one; or
dances/tango.mp4,tango;couple       several at once
"""

import csv
import os

from movinet_jax.data import source as sources
from movinet_jax.data.source import Record, Source, SourceError


def open_source(
  path: str,
  root: str | None = None,
  labels: str | tuple[str, ...] | None = None,
  multi_label: bool | None = None,
  skip: str | None = None,
) -> Source:
  """Reads a table; the files themselves are not touched.

  Args:
    path: the CSV file. Fields may be quoted.
    root: where relative paths start; default: the folder of the CSV file.
    labels: the label map (names, or a file of them) of the training set. Default: the
      sorted names in the table, or `0`, `1`, … up to the largest number in it.
    multi_label: whether videos have several labels (separated by `;`, or none at all).
      Default: whether any row has a `;`.
    skip: manifest of bad files.

  Raises:
    SourceError: names the line: missing column, unknown or out-of-range label, path
      twice; or an empty class.
  """
  rows = _read_rows(path)
  if multi_label is None:
    multi_label = any(len(texts) != 1 for _, _, texts in rows)
  for line, _, texts in rows:
    if len(texts) != 1 and not multi_label:
      raise SourceError(f'{path} line {line}: wanted one label, got {texts}')
  given = sources.read_labels(labels)
  all_texts = [text for _, _, texts in rows for text in texts]
  numeric = all(text.isdecimal() for text in all_texts) and not (
    given and set(all_texts) <= set(given)
  )
  names = given or _name_labels(all_texts, numeric, path)
  numbers = {name: number for number, name in enumerate(names)}
  home = os.path.dirname(os.path.abspath(path)) if root is None else root
  records, lines = [], {}
  for line, name, texts in rows:
    where = f'{path} line {line}'
    if name in lines:
      raise SourceError(f'{where}: {name!r} is in line {lines[name]} already')
    lines[name] = line
    found = [_find(text, numbers, numeric, where) for text in texts]
    label = tuple(sorted(set(found))) if multi_label else found[0]
    records.append(Record(os.path.join(home, name), label, name))
  return sources.make_source(records, names, multi_label=multi_label, skip=skip)


def _read_rows(path: str) -> list[tuple[int, str, list[str]]]:
  """(line number, path, labels) of each row."""
  rows = []
  with sources.open_text(path, 'table') as file:
    reader = csv.reader(file)
    columns = (0, 1)
    for fields in reader:
      fields = [field.strip() for field in fields]
      if not any(fields):
        continue
      if not rows and {'path', 'label'} <= set(fields):
        columns = (fields.index('path'), fields.index('label'))
        continue
      if not rows and 'label' in fields:
        raise SourceError(f'{path}: the header must name path and label, got {fields}')
      if len(fields) <= max(columns) or not fields[columns[0]]:
        raise SourceError(
          f'{path} line {reader.line_num}: wanted path,label, got {",".join(fields)!r}'
        )
      texts = [text.strip() for text in fields[columns[1]].split(';')]
      texts = [text for text in texts if text]
      rows.append((reader.line_num, fields[columns[0]], texts))
  if not rows:
    raise SourceError(f'{path} has no rows; wanted lines of path,label')
  return rows


def _name_labels(texts: list[str], numeric: bool, path: str) -> tuple[str, ...]:
  if not numeric:
    return tuple(sorted(set(texts)))
  used = {int(text) for text in texts}
  empty = sorted(set(range(max(used, default=0) + 1)) - used)
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
