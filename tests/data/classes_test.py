"""A part of the classes: the draw, the renumbering, what is read for it, and mistakes."""

import pickle

import numpy as np
import pytest

from movinet_jax import data, schema
from movinet_jax.data import Classes, SourceError, make_source, take_classes
from movinet_jax.data.source import Record

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
