"""Manifests that were killed, spoilt by other programs, or are no manifests at all."""

import pytest

from movinet_jax.data import SourceError
from movinet_jax.data.manifest import append_rows, read_rows
from movinet_jax.data.source import read_bad_names
from movinet_jax.data.spelling import unspell

HEADER = ('name', 'reason')
ROWS = [{'name': 'été', 'reason': 'x'}]


@pytest.mark.parametrize('rest', ['', 'b.mp4', 'é', 'b.mp4,"half'])
def test_half_a_row_is_cut_off(tmp_path, rest):
  path = tmp_path / 'm.csv'
  whole = 'name,reason\nété,x\n'.encode()
  path.write_bytes(whole + rest.encode()[:-1])  # in the middle of a letter, even
  assert read_rows(str(path), HEADER) == ROWS
  assert path.read_bytes() == whole


@pytest.mark.parametrize('start', ['', 'name,re', 'name,reason'])
def test_half_a_header_is_begun_again(tmp_path, start):
  path = tmp_path / 'm.csv'
  path.write_text(start)
  assert read_rows(str(path), HEADER) == []
  with append_rows(str(path), HEADER) as write_row:
    write_row(('été', 'x'))
  assert read_rows(str(path), HEADER) == ROWS


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (
      b'notes without an end of line',
      r"m\.csv is something else: its header is 'notes",
    ),
    (b'path,label\na.mp4,x', "its header is 'path,label', wanted 'name,reason'"),
    ('name,reason\na,x\n'.encode('utf-16'), r'm\.csv is something else.* in UTF-8'),
    ('name,reason\na,x\nété,x\n'.encode('latin-1'), r'm\.csv line 3 is not UTF-8 text'),
  ],
)
def test_something_else_stays_as_it_is(tmp_path, content, words):
  path = tmp_path / 'm.csv'
  path.write_bytes(content)
  with pytest.raises(SourceError, match=words):
    read_rows(str(path), HEADER)
  assert path.read_bytes() == content


@pytest.mark.parametrize('rest', ['name,re', 'name,reason', 'name,reason\n', 'name,reason\r\na,'])
def test_a_byte_order_mark_is_passed_over(tmp_path, rest):
  path = tmp_path / 'm.csv'
  path.write_text(rest, encoding='utf-8-sig', newline='')
  assert read_rows(str(path), HEADER) == []
  with append_rows(str(path), HEADER) as write_row:
    write_row(('été', 'x'))
  assert read_rows(str(path), HEADER) == ROWS
  assert read_bad_names(str(path)) == {'été'}


@pytest.mark.parametrize(
  ('rows', 'line'),
  [
    ('"a.mp4,bad\nb.mp4,bad\n', 2),
    ('a.mp4,bad\nb.mp4,"bad\nc.mp4,bad\nd.mp4,bad\n', 3),
    ('a.mp4,"bad\nb.mp4,"bad, too"\n', 2),
    ('a.mp4,"bad" too\n', 2),
  ],
)
def test_a_quote_that_is_not_closed_is_named(tmp_path, rows, line):
  path = tmp_path / 'm.csv'
  path.write_text(f'name,reason\n{rows}')
  for read in (lambda: read_rows(str(path), HEADER), lambda: read_bad_names(str(path))):
    with pytest.raises(SourceError, match=f'line {line}: .*quote that is not closed'):
      read()
  assert path.read_text() == f'name,reason\n{rows}'


def test_any_text_is_written_and_read_on_one_line(tmp_path):
  path = tmp_path / 'm.csv'
  name = 'a\r\n"b",\udce9 \\'
  with append_rows(str(path), HEADER) as write_row:
    write_row((name, 'x'))
    write_row(('b.mp4', 'y'))
  assert path.read_bytes().count(b'\n') == 3
  assert b'\r' not in path.read_bytes()
  rows = read_rows(str(path), HEADER)
  assert [unspell(row['name']) for row in rows] == [name, 'b.mp4']


def test_a_row_without_all_fields_is_named(tmp_path):
  path = tmp_path / 'm.csv'
  path.write_text('name,reason\na.mp4\nb.mp4,x\n')
  with pytest.raises(SourceError, match=r"the row of 'a\.mp4' lacks fields"):
    read_rows(str(path), HEADER)
