"""Tables of path,label as people write them."""

import pytest

from movinet_jax.data import SourceError, open_source


@pytest.fixture
def table(tmp_path):
  def write(text, **kwargs):
    path = tmp_path / 'table.csv'
    path.write_text(text, encoding='utf-8')
    return open_source('csv', path=str(path), **kwargs)

  return write


def rows(source):
  return [(record.name, record.label) for record in source.records]


def test_names_with_and_without_header(table, tmp_path):
  body = 'b.mp4,walk\n"a, 1.mp4","run, fast"\n\n'
  for text in (body, 'path,label\n' + body, '\ufeffpath,label\r\n' + body):
    source = table(text)
    assert source.labels == ('run, fast', 'walk')
    assert rows(source) == [('b.mp4', 1), ('a, 1.mp4', 0)]
    assert source.records[0].video == str(tmp_path / 'b.mp4')
  spaced = table('Path, Label\na.mp4, "run, fast"\n')
  assert (spaced.labels, rows(spaced)) == (('run, fast',), [('a.mp4', 0)])
  (tmp_path / 'clip').touch()  # a path without a suffix, but no header
  assert rows(table('clip,walk\n')) == [('clip', 0)]
  swapped = table('label,id,path\nwalk,7,b.mp4\n')
  assert rows(swapped) == [('b.mp4', 0)]


def test_root_and_absolute_paths(table):
  source = table('a.mp4,x\n/abs/b.mp4,x\n', root='/data')
  assert [r.video for r in source.records] == ['/data/a.mp4', '/abs/b.mp4']


def test_numbers(table):
  source = table('a.mp4,2\nb.mp4,0\nc.mp4,1\n')
  assert source.labels == ('0', '1', '2')
  assert rows(source) == [('a.mp4', 2), ('b.mp4', 0), ('c.mp4', 1)]
  named = table('a.mp4,2\n', labels=('x', 'y', 'z'))
  assert rows(named) == [('a.mp4', 2)]


def test_names_that_look_like_numbers(table):
  """A label map of numbers is looked up by name, as the training set did."""
  assert rows(table('a.mp4,7\n', labels=('5', '7'))) == [('a.mp4', 1)]


def test_several_labels(table):
  source = table('a.mp4,walk;run\nb.mp4,run\nc.mp4,\n')
  assert source.multi_label
  assert rows(source) == [('a.mp4', (0, 1)), ('b.mp4', (0,)), ('c.mp4', ())]
  forced = table('a.mp4,walk\n', multi_label=True)
  assert rows(forced) == [('a.mp4', (0,))]


@pytest.mark.parametrize(
  ('text', 'kwargs', 'words'),
  [
    ('', {}, 'no rows'),
    ('a.mp4\n', {}, "line 1: wanted path,label, got 'a.mp4'"),
    ('a.mp4,x\n,x\n', {}, 'line 2: wanted path,label'),
    ('video,label\na.mp4,x\n', {}, 'must name path and label'),
    ('a.mp4,x\nb.mp4,y\na.mp4,y\n', {}, "line 3: 'a.mp4' is in line 1 already"),
    ('a.mp4,0\nb.mp4,5\n', {}, 'no video has label 1 although labels go up to 5'),
    ('a.mp4,0\nb.mp4,5\n', {'labels': ('x', 'y')}, 'line 2: label 5 is outside 0 to 1'),
    ('a.mp4,0\nb.mp4,-1\n', {'labels': ('x', 'y')}, 'line 2: label -1 is no class num'),
    ('a.mp4,walx\n', {'labels': ('walk', 'run')}, "did you mean 'walk'"),
    ('a.mp4,x;y\n', {'multi_label': False}, 'line 1: wanted one label'),
    ('a.mp4,\nb.mp4,x\n', {'multi_label': False}, 'line 1: wanted one label'),
    ('a.mp4,\nb.mp4,x\n', {}, 'line 1: wanted one label'),
    ('video,class\na.mp4,x\n', {}, 'must name path and label'),
    ('clip.path,St. X\na.mp4,x\n', {}, "'clip.path' is no file and has no suffix"),
    ('a.mp4,0\nb.mp4,1\nc.mp4,-1\n', {}, 'line 3: label -1 is no class number'),
    ('a.mp4,1.0\nb.mp4,2.0\n', {}, r'line 1: label 1\.0 is no class number'),
    ('a.mp4,dog\nb.mp4,0\n', {}, "'0' in line 2 is a number and 'dog' in line 1"),
    ('a.mp4,\n', {'multi_label': True}, 'no video has a label'),
    ('my, dog.mp4,dog\n', {}, 'line 1: wanted path,label.*comma in it is quoted'),
    ('path,label,id\na.mp4,x\n', {}, 'line 2: wanted'),
    ('a.mp4,x\nb.mp4,"y\nc.mp4,y\n', {}, 'line 2: .*quote'),
    ('a/b.mp4,x\n./a/b.mp4,x\n', {}, "line 2: './a/b.mp4' is in line 1 already"),
    ('/r/a.mp4,x\na.mp4,x\n', {'root': '/r'}, "line 2: 'a.mp4' is in line 1 already"),
  ],
)
def test_errors_name_the_line(table, text, kwargs, words):
  with pytest.raises(SourceError, match=words):
    table(text, **kwargs)


def test_no_table(tmp_path):
  with pytest.raises(SourceError, match='No such file'):
    open_source('csv', path=str(tmp_path / 'none.csv'))
  with pytest.raises(SourceError, match='not a regular file'):
    open_source('csv', path=str(tmp_path))


@pytest.mark.parametrize('encoding', ['latin-1', 'utf-16'])
def test_another_encoding_is_named(encoding, tmp_path):
  path = tmp_path / 'table.csv'
  path.write_bytes('a.mp4,été\n'.encode(encoding))
  with pytest.raises(SourceError, match=r'table\.csv is not UTF-8 text'):
    open_source('csv', path=str(path))
