"""A part of the classes: the draw, the renumbering, what is read for it, and mistakes."""

import pickle

import numpy as np
import pytest

from movinet_jax import data, schema
from movinet_jax.data import (
  Balance,
  Classes,
  SourceError,
  allow_several,
  count_videos,
  make_source,
  take_classes,
)
from movinet_jax.data.source import Record, list_labels

LABELS = tuple(f'class {i:02d}' for i in range(40))


def make(labels, names=('a', 'b', 'c')):
  return make_source([Record(f'/x/{i}', label, f'{i}') for i, label in enumerate(labels)], names)


def test_a_draw_depends_on_its_seed_and_on_the_names_alone():
  drawn = Classes(count=10, seed=3).choose(LABELS)
  assert len(set(drawn)) == 10
  assert list(drawn) == sorted(drawn)  # in the order of the source
  back = Classes(count=10, seed=3).choose(LABELS[::-1])
  assert back == drawn[::-1]
  assert set(drawn) < set(Classes(count=20, seed=3).choose(LABELS))
  assert Classes(count=10, seed=4).choose(LABELS) != drawn
  assert Classes(count=10).choose(LABELS) == Classes(count=10, seed=0).choose(LABELS)
  # Pinned, because it must be the same tomorrow and on another machine.
  assert Classes(count=3, seed=0).choose(LABELS) == PINNED


def test_two_spellings_of_a_name_are_one_class():
  labels = ('caf\xe9', 'run', 'walk')
  chosen = Classes(names=('walk', 'cafe\u0301')).choose(labels)
  assert chosen == ('caf\xe9', 'walk')
  assert take_classes(make([0, 1, 2], labels), ('cafe\u0301', 'walk')).labels == chosen


PINNED = ('class 10', 'class 19', 'class 20')


def test_a_draw_is_even():
  """Each of 40 classes is one of 10 in a quarter of 400 draws: 100 times, give or take 35."""
  drawn = [Classes(count=10, seed=seed).choose(LABELS) for seed in range(400)]
  times = [sum(label in names for names in drawn) for label in LABELS]
  assert min(times) > 65
  assert max(times) < 135


def test_videos_of_the_classes_are_kept_and_renumbered():
  whole = make([2, 0, 1, 2, 1])
  part = take_classes(whole, ('b', 'c'))
  assert [(r.name, r.label) for r in part.records] == [('0', 1), ('2', 0), ('3', 1), ('4', 0)]
  assert part.labels == ('b', 'c')
  assert part.fingerprint() != whole.fingerprint()
  assert part.fingerprint() != take_classes(whole, ('a', 'c')).fingerprint()
  assert part.fingerprint() == take_classes(make([2, 0, 1, 2, 1]), ('b', 'c')).fingerprint()
  again = pickle.loads(pickle.dumps(part))
  assert list(again.records) == list(part.records)


def test_a_split_without_one_of_the_classes_has_the_same_numbers():
  part = take_classes(make([1, 1, 0], ('a', 'c')), ('b', 'c'))
  assert [(r.name, r.label) for r in part.records] == [('0', 1), ('1', 1)]
  assert part.labels == ('b', 'c')


def test_batches_are_of_the_classes_that_were_taken(motion_root):
  source = data.open_source('folder', root=motion_root, split='val')
  part = take_classes(source, ('left', 'up'))
  clip = data.EvalClip(2, 16, stride=1)
  with data.make_batches(part, clip, batch_size=8, train=False, workers=1) as batches:
    (batch,) = batches
  assert batch['mask'].all()
  wanted = {'left': 0, 'up': 1}
  assert [wanted[name.partition('/')[0]] for name in batch['name']] == batch['label'].tolist()


class Lazy:
  """Records of which each is a video from a file, unless only labels are asked for."""

  def __init__(self, labels):
    self.labels, self.read = labels, []

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    self.read.append(index)
    return Record(b'video', self.labels[index], f'{index}')

  def list_labels(self):
    return self.labels


def test_no_video_is_read_to_take_classes():
  records = Lazy(np.tile([0, 1, 2, 3], 100).tolist())
  part = take_classes(data.Source(records, ('a', 'b', 'c', 'd'), 'digest'), ('d', 'b'))
  assert len(part) == 200
  assert records.read == []
  assert (part.records[0].label, part.records[1].label) == (1, 0)
  assert records.read == [1, 3]


@pytest.mark.parametrize(
  ('section', 'words'),
  [
    ({'count': 3, 'names': ('a', 'b')}, 'both count=3 and 2 names: say count to draw'),
    ({'seed': 3}, 'seed=3 and no count: say how many'),
    ({'count': 1}, 'classes.count is 1; wanted a whole number, 2 or more'),
    ({'names': ('a',)}, 'name 2 classes or more'),
    ({'names': ('a', 'b', 'a')}, "holds 'a' twice: name each class once"),
    ({'names': 'ab'}, "classes.names should be a list, got 'ab'"),
    ({'cuont': 3}, "no field 'cuont'; did you mean 'count'"),
  ],
)
def test_wrong_sections(section, words):
  with pytest.raises(ValueError, match=words):
    schema.build(Classes, section, 'classes')


@pytest.mark.parametrize(
  ('classes', 'words'),
  [
    (Classes(count=41), 'count is 41, but the data has 40 classes: take 40 or fewer'),
    (
      Classes(names=('class 07', 'clas 08')),
      "unknown class 'clas 08'; did you mean 'class 08'",
    ),
  ],
)
def test_classes_that_are_not_there(classes, words):
  with pytest.raises(SourceError, match=words):
    classes.choose(LABELS)


def test_an_empty_section_takes_all():
  assert not Classes()
  assert len(Classes(count=5)) == 5
  assert len(Classes(names=('a', 'b'))) == 2


def test_videos_of_none_of_the_classes_and_of_several_are_refused():
  with pytest.raises(SourceError, match=r"none of 2 videos .*'dd'.*choices: a, b, c"):
    take_classes(make([0, 1]), ('dd', 'ee'))
  records = [Record('/x/0', (0, 1), '0')]
  several = make_source(records, ('a', 'b'), multi_label=True)
  with pytest.raises(SourceError, match=r'several labels: leave data\.classes out'):
    take_classes(several, ('a', 'b'))


def test_videos_with_one_label_can_have_several():
  whole = make([2, 0, 1])
  several = allow_several(whole)
  assert several.multi_label
  assert [record.label for record in several.records] == [(2,), (0,), (1,)]
  assert list_labels(several.records) == [(2,), (0,), (1,)]
  assert several.fingerprint() != whole.fingerprint()
  assert several.fingerprint() == allow_several(make([2, 0, 1])).fingerprint()
  assert allow_several(several) is several
  again = pickle.loads(pickle.dumps(several))
  assert list(again.records) == list(several.records)


def test_any_kind_of_source_can_have_several_labels(motion_root):
  place = {'root': motion_root, 'split': 'val'}
  source = data.open_source('folder', **place, multi_label=True)
  assert source == allow_several(data.open_source('folder', **place))
  for value in (False, None):
    assert not data.open_source('folder', **place, multi_label=value).multi_label
  with pytest.raises(SourceError, match='multi_label should be bool'):
    data.open_source('folder', **place, multi_label='yes')


def test_no_video_is_read_to_count():
  records = Lazy([0, 1, 1, 3, 1, 2])
  source = data.Source(records, ('a', 'b', 'c', 'd', 'e'), 'digest')
  assert count_videos(source).tolist() == [1, 3, 1, 1, 0]
  assert count_videos(allow_several(source)).tolist() == [1, 3, 1, 1, 0]
  assert count_videos(take_classes(source, ('d', 'b'))).tolist() == [1, 3]
  parts = data.split_source(source, 0.5)
  assert sum(count_videos(part) for part in parts).tolist() == [1, 3, 1, 1, 0]
  assert records.read == []


def test_a_video_counts_for_each_of_its_labels():
  records = [Record(f'/x/{i}', label, f'{i}') for i, label in enumerate([(0, 2), (2,), ()])]
  assert count_videos(make_source(records, ('a', 'b', 'c'), multi_label=True)).tolist() == [1, 0, 2]


def balance(*counts, videos=None):
  return Balance(tuple(f'c{n}' for n in range(len(counts))), counts, videos)


def test_counts_are_shown_from_the_largest_to_the_smallest():
  assert balance(5, 1200, 30).describe() == '3 classes (c1 1,200, c2 30, c0 5)'
  assert Balance(('a\nb',), (3,)).describe() == r'1 class (a\nb 3)'
  many = balance(*range(100, 125)).describe()
  assert many == (
    '25 classes (largest c24 124, c23 123, c22 122; median 112; smallest c2 102, c1 101, c0 100)'
  )


@pytest.mark.parametrize(
  ('counts', 'options', 'words'),
  [
    ((10, 1), {}, []),
    ((31, 3), {}, ["'c0' has 31 videos and 'c1' 3, 10.3 : 1", 'sampling.name', 'class_weights']),
    ((31, 3), {'weighs': True}, []),
    ((31, 3), {'draws': True}, []),
    ((5, 5), {'weighs': True, 'draws': True}, ['count twice over']),
    ((5, 0, 3, 0), {}, ["no training video is of 'c1', 'c3'"]),
    ((2_000_000, 1), {}, ['2,000,000 : 1']),
    ((31, 3), {'place': 'config.recipe'}, ['--config.recipe.sampling.', '--config.recipe.loss.']),
    ((5,), {}, ["one class, 'c0': there is nothing to tell apart", 'accuracy will be 100 %']),
    ((5,), {'videos': 5}, ["one class, 'c0': there is nothing to tell apart"]),
    ((5,), {'videos': 6}, []),
    ((5, 5), {'videos': 5}, []),
  ],
)
def test_what_hinders_learning_is_said(counts, options, words):
  given = {'weighs': False, 'draws': False, **options}
  notes = balance(*counts, videos=given.pop('videos', None)).list_notes(**given)
  assert len(notes) == bool(words)
  assert [word for word in words if word not in notes[0]] == []


@pytest.mark.parametrize('videos', [None, 5])
def test_one_class_of_several_that_has_videos_is_nothing_to_learn(videos):
  alone, empty = balance(0, 5, 0, videos=videos).list_notes(weighs=True, draws=True)
  assert "are of one class, 'c1': there is nothing to tell apart" in alone
  assert '100 %' not in alone
  assert "no training video is of 'c0', 'c2'" in empty
