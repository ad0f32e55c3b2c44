"""CSV files that are written row by row, so that a job that was killed can go on."""

import codecs
import contextlib
import csv
import os
from collections.abc import Callable, Iterator

from movinet_jax.data.source import SourceError, parse_rows
from movinet_jax.data.spelling import spell_raw


def read_rows(path: str, header: tuple[str, ...]) -> list[dict[str, str]]:
  """Rows of a manifest, spelled as names are; none if there is no such file.

  A last row without its end of line, as a kill leaves it, is cut off the file. A byte order mark,
  as Excel writes it, is passed over.

  Raises:
    SourceError: the file is something else, and stays as it is.
  """
  if not os.path.exists(path):
    return []
  with open(path, 'rb') as file:
    content = file.read()
  mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b''
  content = content[len(mark) :]
  wanted, whole = ','.join(header), content[: content.rfind(b'\n') + 1]
  first = content.partition(b'\n')[0].rstrip(b'\r').decode(errors='replace')
  if first != wanted and (whole or not wanted.startswith(first)):
    raise SourceError(
      f'{path} is something else: its header is {first[:80]!r}, wanted {wanted!r} in UTF-8'
    )
  try:
    _, rows = parse_rows(whole.decode(), path)
  except UnicodeDecodeError as error:
    line = whole.count(b'\n', 0, error.start) + 1
    raise SourceError(
      f'{path} line {line} is not UTF-8 text ({error.reason}): save it as UTF-8'
    ) from error
  for row in rows:
    if len(row) < len(header):
      raise SourceError(f'{path}: the row of {row.get(header[0])!r} lacks fields: remove it')
  # Without a row, the mark goes too: `append_rows` begins an empty file with the header.
  os.truncate(path, len(mark) + len(whole) if whole else 0)
  return rows


@contextlib.contextmanager
def append_rows(path: str, header: tuple[str, ...]) -> Iterator[Callable]:
  """Gives a function that adds one row, written out before it returns."""
  with open(path, 'a', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, lineterminator='\n')

    def write_row(row):
      writer.writerow([spell_raw(field) if isinstance(field, str) else field for field in row])
      file.flush()

    if not file.tell():
      write_row(header)
    yield write_row


def one_line(text: str) -> str:
  """Text without line ends, so that a row of a manifest is a line of the file."""
  return ' '.join(text.split())
