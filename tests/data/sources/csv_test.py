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
    ('a.mp4;x\nb.mp4,x\n', {}, "line 2: wanted path;label, got 'b.mp4,x'"),
    ('a.mp4;x;y\n', {}, 'wanted path;label.*semicolon in it is quoted'),
    ('a.mp4\tx\ty\n', {}, 'wanted path\tlabel.*tab in it is quoted'),
    ('a.mp4 long jump\n', {}, 'after a space a label is one word: separate the columns by commas'),
    ('a.mp4 x\nb.mp4 long jump\n', {}, "line 2: wanted path label, got 'b.mp4 long jump'"),
    ('video;class\na.mp4;x\n', {}, "must name path and label, got 'video;class'"),
    (
      'a.mp4;b.mp4,x\n',
      {},
      "first path may be 'a.mp4;b.mp4' before a comma or 'a.mp4' before a semicolon: quote it",
    ),
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


@pytest.mark.parametrize(
  ('text', 'names', 'labels'),
  [
    ('a.mp4;walk\nb, c.mp4;run, fast\n', ['a.mp4', 'b, c.mp4'], ['walk', 'run, fast']),
    ('a.mp4\twalk\nb, c.mp4\trun; fast\n', ['a.mp4', 'b, c.mp4'], ['walk', 'run', 'fast']),
    ('path;label\nclip;walk\n', ['clip'], ['walk']),
    ('id;label;path\r\n1;long jump;"a;b.mp4"\r\n', ['a;b.mp4'], ['long jump']),
    ('\ufeffPATH\tLABEL\na b.mp4\tlong jump\n', ['a b.mp4'], ['long jump']),
    ('clips/a b.mp4 walk\n\na.mp4   run\n', ['clips/a b.mp4', 'a.mp4'], ['walk', 'run']),
    ('path label\na.MP4 walk\n', ['a.MP4'], ['walk']),
    ('a.mp4,walk;run\n', ['a.mp4'], ['walk', 'run']),
    ('a.mp4;walk|run\n', ['a.mp4'], ['walk', 'run']),
    ('a.mp4\twalk;run\n', ['a.mp4'], ['walk', 'run']),
    ('"a;b.mp4",x\n', ['a;b.mp4'], ['x']),
    ('path,label\na.mp4;b.mp4,x\n', ['a.mp4;b.mp4'], ['x']),
  ],
)
def test_separators(table, text, names, labels):
  source = table(text)
  assert [record.name for record in source.records] == names
  assert source.labels == tuple(sorted(labels))


def test_numbers_after_spaces(table):
  assert rows(table('a b.mp4 1\nc.mp4 0\n')) == [('a b.mp4', 1), ('c.mp4', 0)]


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('run,v/a.mp4\nwalk,v/b.mp4\n', "line 1: the columns are swapped: 'v/a.mp4' is a video"),
    ('a.mp4,run\nwalk,b.mp4\n', "line 2: the columns are swapped: 'b.mp4' is a video and 'walk'"),
    ('long jump;a.mp4\n', 'wanted path;label, or the header label;path'),
    ('long jump a.mp4\n', "'a.mp4' is a video and 'long jump' is none"),
    ('3\ta.mp4\n', 'line 1: the columns are swapped'),
    ('run,clip\n', "line 1: the columns are swapped: 'clip' is a video"),
  ],
)
def test_swapped_columns_are_named(table, tmp_path, text, words):
  (tmp_path / 'clip').touch()
  with pytest.raises(SourceError, match=words):
    table(text)


def test_a_label_may_be_called_as_a_video(table):
  assert table('a.mp4,intro.mp4\nb.mp4,x\n').labels == ('intro.mp4', 'x')
  assert rows(table('label,path\nrun,a.mp4\n')) == [('a.mp4', 0)]


@pytest.mark.parametrize('separator', [',', ';', '\t', ' '])
@pytest.mark.parametrize('form', ['sep={}\r\n', 'SEP={}\n', '"sep={}"\n', '\ufeffsep={}\n'])
def test_a_separator_may_be_named_as_excel_does(table, form, separator):
  head = form.format(separator)
  for body in ('a.mp4|x\nb.mp4|y\n', 'path|label\na.mp4|x\nb.mp4|y\n'):
    source = table(head + body.replace('|', separator))
    assert rows(source) == [('a.mp4', 0), ('b.mp4', 1)]
  with pytest.raises(SourceError, match='line 3: wanted path'):
    table(f'{head}a.mp4{separator}x\nb.mp4\n')


def test_a_separator_of_excel_that_is_not_known_is_named(table):
  with pytest.raises(SourceError, match=r"line 1: 'sep=\|' names a separator that is none of"):
    table('sep=|\na.mp4|x\n')
  with pytest.raises(SourceError, match='has no rows'):
    table('sep=;\n')


@pytest.mark.parametrize(
  ('label', 'words'),
  [
    ('20261128093000', 'line 2: label 20261128093000 is no class number of a table of 2 videos'),
    ('1021', 'line 2: label 1021 is no class .* up to 1020: pass labels='),
    ('1020', 'no video has label 1 although labels go up to 1020'),
    ('9' * 5000, 'line 2: label 999999999999999999… has 5000 digits'),
  ],
)
def test_a_label_that_is_far_too_large_is_named(table, label, words):
  with pytest.raises(SourceError, match=words):
    table(f'a.mp4,0\nb.mp4,{label}\n')
  assert rows(table(f'b.mp4,{label}\n', labels=(label, 'x'))) == [('b.mp4', 0)]
  with pytest.raises(SourceError, match='line 1: label'):
    table(f'b.mp4,{label}\n', labels=('x', 'y'))


@pytest.mark.parametrize(
  ('text', 'names'),
  [
    ('clip one 0\nclip two 1\n', ['clip one', 'clip two']),
    ('clip one 1\nnone two 0\n', ['clip one', 'none two']),
    # The first folder is missing: a bad video, as any other.
    ('v/none,walk\nclip one,run\n', ['v/none', 'clip one']),
    ('34870;walk\nclip one;run\n', ['34870', 'clip one']),
    ('none,walk\nclip one,run\nclip two,walk\n', ['none', 'clip one', 'clip two']),
    ('none\t1\nclip one\t0\n', ['none', 'clip one']),
    ('walk/none,walk\n', ['walk/none']),
    ('walk/none,walk\nclip one,walk\n', ['walk/none', 'clip one']),
  ],
)
def test_tables_of_folders(table, tmp_path, text, names):
  for name in ('clip', 'clip one', 'clip two', 'walk'):
    (tmp_path / name).mkdir()
  assert [record.name for record in table(text, fps=5.0).records] == names


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('video,class\nclip one,x\n', "got 'video,class', where 'video' is no folder"),
    ('video,label,id\nclip one,x,3\n', "where 'video' is no folder"),
    ('col1 col2\nclip x\n', "where 'col1' is no folder"),
    ('clip long jump\n', "line 1: wanted path label, got 'clip long jump'; after a space"),
    ('jump,clip one\nrun,clip\n', "line 1: the columns are swapped: 'clip one' is a video"),
  ],
)
def test_tables_of_folders_that_are_wrong(table, tmp_path, text, words):
  for name in ('clip', 'clip one', 'walk'):
    (tmp_path / name).mkdir()
  with pytest.raises(SourceError, match=words):
    table(text, fps=5.0)


def test_two_spellings_of_a_label_are_one(table):
  source = table('a.mp4,caf\xe9\nb.mp4,cafe\u0301\n', labels=('cafe\u0301', 'x'))
  assert source.labels == ('caf\xe9', 'x')
  assert rows(source) == [('a.mp4', 0), ('b.mp4', 0)]


def test_names_that_do_not_print(table, tmp_path):
  source = table('"a\tb.mp4",x\n')
  assert source.records[0].name == r'a\tb.mp4'
  assert source.records[0].video == str(tmp_path / 'a\tb.mp4')
