"""What every kind of dataset shares: checks, label maps, fingerprints, the registry."""

import pickle

import pytest

from movinet_jax import data
from movinet_jax.data import SourceError
from movinet_jax.data import source as sources
from movinet_jax.data.source import Record, make_source, split_source


def records(*labels):
  return [Record(f'/x/{i}.mp4', label, f'{i}.mp4') for i, label in enumerate(labels)]


def test_fingerprint_is_of_names_and_labels_only():
  base = make_source(records(0, 1, 1), ['a', 'b'])
  elsewhere = [Record(f'/y/{r.name}', r.label, r.name) for r in base.records]
  assert make_source(elsewhere, ['a', 'b']).fingerprint() == base.fingerprint()
  others = [
    make_source(records(0, 1, 0), ['a', 'b']),
    make_source(records(0, 1), ['a', 'b']),
    make_source(records(0, 1, 1), ['a', 'c']),
    make_source(list(reversed(records(0, 1, 1))), ['a', 'b']),
  ]
  assert len({s.fingerprint() for s in [base, *others]}) == 5
  # Pinned, because it must be the same tomorrow and on another machine.
  assert base.fingerprint() == 'de067021b605820252a6f946d3f07af2'


@pytest.mark.parametrize(
  ('rows', 'words'),
  [
    ([], 'no videos'),
    (records(0, 2), r"'1.mp4' has label 2, outside 0 to 1 \(2 classes\)"),
    (records(-1), 'label -1'),
    (records((0, 5)), 'label 5'),
    (records(0, 0)[:1] * 2, r"'0.mp4' is there twice, as record 1 and 2"),
  ],
)
def test_bad_records_are_named(rows, words):
  with pytest.raises(SourceError, match=words):
    make_source(rows, ['a', 'b'])


def test_manifest_leaves_out_and_counts(tmp_path):
  manifest = tmp_path / 'bad.csv'
  manifest.write_text(
    'name,bytes,reason\n0.mp4,5,mended later\n1.mp4,7,"broken, badly"\n0.mp4,6,\n'
  )
  source = make_source(records(0, 1, 1), ['a', 'b'], skip=str(manifest))
  assert [record.name for record in source.records] == ['0.mp4', '2.mp4']
  assert source.skipped == ('1.mp4',)
  without = make_source(records(0, 1, 1), ['a', 'b'])
  assert source.fingerprint() != without.fingerprint()


def test_manifests_of_before_name_what_does_not_print_as_it_is(tmp_path):
  manifest = tmp_path / 'bad.csv'
  # Bare as Python 3.11 wrote a carriage return, quoted as later ones do.
  manifest.write_bytes(
    b'name,bytes,reason\na\rb.mp4,5,x\n"c\rd.mp4",5,x\n"e\nf.mp4",5,x\n2.mp4,7,\n'
  )
  names = [r'a\rb.mp4', r'c\rd.mp4', r'e\nf.mp4', '2.mp4']
  source = make_source([Record('x', 0, name) for name in names], ['a'], skip=str(manifest))
  assert [record.name for record in source.records] == ['2.mp4']


def test_manifest_must_be_one(tmp_path):
  with pytest.raises(SourceError, match='no_such'):
    make_source(records(0), ['a'], skip=str(tmp_path / 'no_such.csv'))
  table = tmp_path / 'table.csv'
  table.write_text('a.mp4,3\n')
  with pytest.raises(SourceError, match='name,reason'):
    make_source(records(0), ['a'], skip=str(table))
  names = tmp_path / 'names.csv'
  names.write_text('name\n0.mp4\n')
  with pytest.raises(SourceError, match="got 'name'"):
    make_source(records(0), ['a'], skip=str(names))
  all_bad = tmp_path / 'all.csv'
  all_bad.write_text('name,reason\n0.mp4,x\n')
  with pytest.raises(SourceError, match='all 1 videos'):
    make_source(records(0), ['a'], skip=str(all_bad))


def test_label_map_file(tmp_path):
  path = tmp_path / 'labels.txt'
  path.write_text('\ufeffdance, slow\nwalk\n', encoding='utf-8')
  assert sources.read_labels(str(path)) == ('dance, slow', 'walk')
  path.write_text('cafe\u0301\nwalk\n', encoding='utf-8')
  assert sources.read_labels(str(path)) == ('caf\xe9', 'walk')
  path.write_text('walk\nwalk\n')
  with pytest.raises(SourceError, match="'walk' twice"):
    sources.read_labels(str(path))
  path.write_text('walk\n\nrun\n')
  with pytest.raises(SourceError, match='no empty line'):
    sources.read_labels(str(path))


@pytest.mark.parametrize('encoding', ['latin-1', 'utf-16'])
def test_another_encoding_is_named(encoding, tmp_path):
  path = tmp_path / 'text'
  path.write_bytes('name,reason\nété.mp4,x\n'.encode(encoding))
  with pytest.raises(SourceError, match=r'label map .*text is not UTF-8 text.*save it as'):
    sources.read_labels(str(path))
  with pytest.raises(SourceError, match=r'manifest of bad files .*text is not UTF-8 text'):
    make_source(records(0), ['a'], skip=str(path))


def test_registry_is_the_folder():
  assert data.list_sources() == ('csv', 'folder', 'frames', 'motion', 'tfds')


@pytest.mark.parametrize(
  ('name', 'arguments', 'words'),
  [
    ('foldr', {}, "no data source 'foldr'; did you mean 'folder'"),
    ('folder', {'rot': 'x'}, "no argument 'rot'; did you mean 'root'"),
    ('csv', {}, "needs 'path'"),
  ],
)
def test_misspelt_names_are_corrected(name, arguments, words):
  with pytest.raises(SourceError, match=words):
    data.open_source(name, **arguments)


def test_a_source_divides_by_lot():
  records = [Record(f'{i}.mp4', i % 2, f'{i}') for i in range(20)]
  whole = make_source(records, ['a', 'b'])
  rest, share = split_source(whole, 0.3, seed=1)
  names = [[r.name for r in part.records] for part in (rest, share)]
  assert (len(rest), len(share)) == (14, 6)
  assert sorted(names[0] + names[1], key=int) == [r.name for r in records]
  assert len({s.fingerprint() for s in (whole, rest, share)}) == 3
  again = split_source(whole, 0.3, seed=1)[1]
  assert [r.name for r in again.records] == names[1]
  assert again.fingerprint() == share.fingerprint()
  other = split_source(whole, 0.3, seed=2)[1]
  assert [r.name for r in other.records] != names[1]
  assert pickle.loads(pickle.dumps(share)).records[0] == share.records[0]


@pytest.mark.parametrize('share', [0.0, 1.0, 0.01])
def test_both_parts_of_a_source_need_some(share):
  whole = make_source([Record(f'{i}.mp4', 0, f'{i}') for i in range(10)], ['a'])
  with pytest.raises(SourceError, match='both parts need some'):
    split_source(whole, share)
