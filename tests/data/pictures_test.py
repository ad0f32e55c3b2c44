"""Pictures that are smaller than the clips cut out of them are noticed."""

import dataclasses

import pytest

from movinet_jax.data import EvalClip, Record, TrainClip, make_source, open_source, pictures

RATE = {'frames': 2, 'stride': 1}
NAMES = ('a',)


@pytest.fixture
def source(motion_root):
  """Videos of 32 x 32."""
  return open_source('folder', root=motion_root, split='train')


@pytest.mark.parametrize(
  ('clip', 'wanted'),
  [
    (EvalClip(size=32, **RATE), 32),
    (EvalClip(size=32, short_side=40, **RATE), 40),
    (TrainClip(size=32, area=(0.1, 1.0), **RATE), 32),
    (TrainClip(size=32, short_side=(36, 48), **RATE), 48),
  ],
)
def test_what_a_clip_wants(clip, wanted):
  assert clip.least_side == wanted


def test_a_dataset_that_says_its_size_is_not_looked_into(source):
  records = make_source([Record('/nowhere.mp4', 0, 'a')], NAMES)
  assert pictures.find_short_side(dataclasses.replace(records, short_side=256)) == 256
  assert pictures.find_short_side(source) == 32


def test_bad_videos_say_nothing(source):
  bad = Record(b'no video', 0, 'bad')
  assert pictures.find_short_side(make_source([bad], NAMES)) is None
  good = Record(source.records[0].video, 0, 'good')
  assert pictures.find_short_side(make_source([bad, good], NAMES)) == 32


def test_enlarged_pictures_are_named_with_what_to_build(source):
  clips = {
    'train': TrainClip(size=32, short_side=(36, 48), **RATE),
    'eval': EvalClip(size=32, **RATE),
  }
  (note,) = pictures.find_enlarged({'train': source, 'eval': source}, clips)
  assert 'for train have 32 pixels' in note
  assert 'wants 48' in note
  assert '--short-side' not in note  # nobody built it
  built = dataclasses.replace(source, short_side=32)
  (note,) = pictures.find_enlarged({'train': built}, clips)
  assert '--short-side 48' in note
  assert not pictures.find_enlarged({'train': dataclasses.replace(source, short_side=48)}, clips)


def test_notes_are_those_of_the_sources_and_of_their_pictures(source):
  noted = dataclasses.replace(source, notes=('3 files are not taken',))
  clips = {'train': TrainClip(size=32, short_side=(36, 48), **RATE)}
  found = pictures.find_notes({'train': noted, 'eval': noted}, clips)
  assert found[0] == '3 files are not taken'
  assert found[1:] == pictures.find_enlarged({'train': noted}, clips)
