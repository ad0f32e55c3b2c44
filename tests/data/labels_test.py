"""The lists of class names: their sizes, their order, and which network has which."""

import tomllib
from pathlib import Path

import pytest

from movinet_jax.data import labels, open_source
from movinet_jax.data.source import read_labels
from movinet_jax.data.spelling import spell_label

SIZES = {
  'charades': 157,
  'kinetics400': 400,
  'kinetics600': 600,
  'kinetics700': 700,
  'moments': 339,
  'ssv2': 174,
}
# Numbers from other places than those that the lists were made of: PyTorchVideo's
# kinetics_classnames.json; an application's answers of a network on Kinetics-600; MMAction2's
# label maps; the card of Charades in a collection of data sets.
NUMBERS = {
  'kinetics400': {
    'abseiling': 0,
    'capoeira': 43,
    'headbutting': 150,
    'high jump': 151,
    "massaging person's head": 196,
    'passing American football (not in game)': 209,
    'riding or walking with horse': 273,
    'skiing (not slalom or crosscountry)': 308,
    'tying knot (not on a tie)': 369,
    'zumba': 399,
  },
  'kinetics600': {
    'casting fishing line': 74,
    'cutting apple': 124,
    'golf chipping': 197,
    'hitting baseball': 213,
    'passing american football (not in game)': 309,
    'spinning poi': 488,
    'swinging baseball bat': 509,
  },
  'kinetics700': {'abseiling': 0, 'arresting': 13, 'zumba': 699},
  'moments': {'clapping': 0, 'praying': 1, 'playing+fun': 51, 'typing': 338},
  'ssv2': {
    'Approaching something with your camera': 0,
    'Closing something': 5,
    'Wiping something off of something': 173,
  },
  'charades': {
    'Holding some clothes': 0,
    'Sitting in a chair': 59,
    'Drinking from a cup/glass/bottle': 106,
    'Someone is eating something': 156,
  },
}


def test_all_lists_are_here():
  assert {name: len(labels.read_list(name)) for name in labels.list_names()} == SIZES


@pytest.mark.parametrize('name', SIZES)
def test_names_are_spelled_as_everywhere(name):
  names = labels.read_list(name)
  assert len(set(names)) == len(names)
  assert all(one == spell_label(one.strip()) != '' for one in names)


@pytest.mark.parametrize('name', NUMBERS)
def test_numbers_of_classes(name):
  names = labels.read_list(name)
  assert {one: names.index(one) for one in NUMBERS[name]} == NUMBERS[name]


@pytest.mark.parametrize('name', ['kinetics400', 'kinetics600', 'kinetics700', 'ssv2'])
def test_sorted_lists(name):
  names = labels.read_list(name)
  assert list(names) == sorted(names)


def test_kinetics_700_holds_600_but_for_three_classes():
  """The paper of Kinetics-700 says three (arXiv:1907.06987)."""
  left = set(labels.read_list('kinetics600')) - set(labels.read_list('kinetics700'))
  assert left == {
    'bull fighting',
    'chopping vegetables',
    'passing american football (not in game)',  # 700 has it with a capital letter
    'picking fruit',
  }


def test_which_list_a_published_network_has():
  assert labels.find_list('movinet', 600) == 'kinetics600'
  assert labels.find_list('x3d', 400) == 'kinetics400'
  assert labels.find_list('movinet', 400) is None  # no weights were released
  assert labels.find_list('x3d', 100) is None
  assert labels.find_list('tvn', 339) is None  # nobody says how they are numbered


def test_several_labels():
  assert set(labels.list_names()) >= labels.MULTI_LABEL == {'charades'}


def test_an_unknown_list():
  with pytest.raises(ValueError, match="did you mean 'kinetics600'"):
    labels.read_list('kinetics-600')


def test_a_list_stands_where_a_file_of_names_does(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert read_labels('moments') == labels.read_list('moments')
  Path('moments.txt').write_text('a\nb\n')
  assert read_labels('moments.txt') == ('a', 'b')
  Path('val.csv').write_text('path,label\na.mp4,zumba\n')
  source = open_source('csv', path='val.csv', labels='kinetics600')
  assert source.records[0].label == 599


def test_they_are_installed():
  """Files that are no Python reach the wheel only where pyproject.toml names them."""
  root = Path(__file__).parents[2]
  data = tomllib.loads((root / 'pyproject.toml').read_text())['tool']['setuptools']['package-data']
  assert data[labels.__name__] == ['*.txt']
  assert 'counts.json' in data['movinet_jax']
