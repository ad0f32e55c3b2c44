"""Manifests that were killed, spoilt by other programs, or are no manifests at all."""

import pytest

from movinet_jax.data import SourceError
from movinet_jax.data.manifest import append_rows, read_rows

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
