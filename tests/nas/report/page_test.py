"""A page is written whole or not at all."""

import pytest

from nas.report.page import write_page


def test_a_page_replaces_the_one_before(tmp_path):
  for text in ('before', 'after <φ>'):
    write_page(tmp_path / 'report.html', text)
  assert (tmp_path / 'report.html').read_text('utf-8') == 'after <φ>'
  assert [path.name for path in tmp_path.iterdir()] == ['report.html']


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
  (tmp_path / 'report.html').mkdir()
  with pytest.raises(OSError, match=r'report\.html'):
    write_page(tmp_path / 'report.html', 'text')
  assert [path.name for path in tmp_path.iterdir()] == ['report.html']
