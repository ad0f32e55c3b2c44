"""CSV files that are written row by row, so that a job that was killed can go on."""

import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterator

from movinet_jax.data.source import SourceError


def read_rows(path: str, header: tuple[str, ...]) -> list[dict[str, str]]:
  """Rows of a manifest; none if there is no such file.

  A last row without its end of line, as a kill leaves it, is cut off the file.

  Raises:
    SourceError: the file is something else, and stays as it is.
  """
  if not os.path.exists(path):
    return []
  with open(path, 'rb') as file:
    content = file.read()
  wanted, whole = ','.join(header), content[: content.rfind(b'\n') + 1]
  first = content.partition(b'\n')[0].rstrip(b'\r').decode(errors='replace')
  if first != wanted and (whole or not wanted.startswith(first)):
    raise SourceError(
      f'{path} is something else: its header is {first[:80]!r}, wanted {wanted!r} in UTF-8'
    )
  try:
    rows = list(csv.DictReader(io.StringIO(whole.decode(), newline='')))
  except UnicodeDecodeError as error:
    line = whole.count(b'\n', 0, error.start) + 1
    raise SourceError(
      f'{path} line {line} is not UTF-8 text ({error.reason}): save it as UTF-8'
    ) from error
  os.truncate(path, len(whole))
  return rows


@contextlib.contextmanager
def append_rows(path: str, header: tuple[str, ...]) -> Iterator[Callable]:
  """Gives a function that adds one row, written out before it returns."""
  with open(path, 'a', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, lineterminator='\n')

    def write_row(row):
      writer.writerow(row)
      file.flush()

    if not file.tell():
      write_row(header)
    yield write_row


def one_line(text: str) -> str:
  """Text without line ends, so that a row of a manifest is a line of the file."""
  return ' '.join(text.split())
