"""CSV files that are written row by row, so that a job that was killed can go on."""

import contextlib
import csv
import os
from collections.abc import Callable, Iterator

from movinet_jax.data.source import SourceError


def read_rows(path: str, header: tuple[str, ...]) -> list[dict[str, str]]:
  """Rows of a manifest; none if there is no such file.

  A last row without its end of line, as a kill leaves it, is cut off the file.

  Raises:
    SourceError: the file has another header.
  """
  if not os.path.exists(path):
    return []
  with open(path, 'rb+') as file:
    file.truncate(file.read().rfind(b'\n') + 1)
  with open(path, newline='', encoding='utf-8') as file:
    reader = csv.DictReader(file)
    if reader.fieldnames is not None and tuple(reader.fieldnames) != header:
      raise SourceError(
        f'{path} is something else: its header is {",".join(reader.fieldnames)}, '
        f'wanted {",".join(header)}'
      )
    return list(reader)


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
