"""Networks are found by name, by architecture file, and as trained ones."""

import dataclasses
import json
import pathlib
import tarfile

import jax
import numpy as np
import pytest

import movinet_jax as mj
from launch.runs.named import lacks_name, read_network
from movinet_jax import models
from movinet_jax.convert import archive
from movinet_jax.data import EvalClip
from movinet_jax.models import movinet

TESTS = pathlib.Path(__file__).parents[1]
SPEC = movinet.SMALL['stream-3d']


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'found.json'
  models.save_spec(path, 'movinet', SPEC)
  return str(path)


@pytest.fixture
def archived(tmp_path):
  """A network of three classes that was evaluated on 6 frames of 24²."""
  model = mj.create('movinet', 3, spec=SPEC)
  clip = dataclasses.asdict(EvalClip(frames=6, size=24, short_side=28, fps=5))
  told = archive.describe_network(model)
  about = archive.About(**told, labels=('a', 'b', 'c'), preprocessing=clip)
  path = tmp_path / 'mine.npz'
  archive.write_archive(path, mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3)), about)
  return str(path)


def test_names():
  found = read_network('x3d/m-stream')
  assert (found.name, found.input, found.has_stream) == ('x3d/m-stream', (16, 224, 224), True)
  assert (found.model.num_classes, found.variables) == (400, None)
  changed = read_network('movinet/a0', 5, causal=True)
  assert (changed.name, changed.has_stream, changed.model.num_classes) == ('movinet', True, 5)


def test_architecture_files(file, tmp_path):
  found = read_network(file, 7)
  assert (found.text, found.name, found.model.spec) == (file, 'movinet', SPEC)
  assert (found.model.num_classes, found.input[0]) == (7, SPEC.frames)
  models.save_spec(tmp_path / 'known.json', 'tvn', models.create('tvn/m1').spec)
  assert read_network(str(tmp_path / 'known.json')).name == 'tvn/m1'


def test_archives_and_ensembles_of_them(archived, tmp_path):
  found = read_network(archived)
  assert (found.input, found.model.num_classes) == ((6, 24, 24), 3)
  parts = [{'checkpoint': archived, 'stride': 2, 'offset': offset} for offset in (0, 1)]
  (tmp_path / 'pair.json').write_text(json.dumps({'members': parts}))
  pair = read_network(str(tmp_path / 'pair.json'))
  assert (pair.name, pair.input, pair.has_stream) == ('ensemble', (12, 24, 24), True)
  member = pair.variables['params']['member1']
  jax.tree.map(np.testing.assert_array_equal, member, dict(found.variables['params']))


def test_a_published_checkpoint_is_named(file):
  checkpoint, spec = TESTS / 'golden/movinet/ckpt_tiny_base_3d/ckpt-1', 'golden/movinet/tiny.json'
  found = read_network(str(checkpoint), network=str(TESTS / spec))
  assert (found.name, found.model.num_classes) == ('movinet', 12)  # whose names are not needed
  assert lacks_name(str(checkpoint))
  assert not any(map(lacks_name, ('movinet/a0', file, str(TESTS), 'nowhere', '')))
  with pytest.raises(ValueError, match=r'movinet/a0 says itself.*leave out --network=x3d/s'):
    read_network('movinet/a0', network='x3d/s')


def test_workdirs(tmp_path):
  with tarfile.open(TESTS / 'fixtures' / 'workdirs' / 'train.tar.gz') as packed:
    packed.extractall(tmp_path, filter='data')
  found = read_network(str(tmp_path / 'train'))
  assert (found.model.num_classes, found.input) == (4, (4, 16, 16))
  assert found.find_weights() is found.variables


def test_weights_to_time_an_untrained_network_with_are_random(file):
  weights = read_network(file, 5).find_weights()
  wanted = mj.init(mj.create('movinet', 5, spec=SPEC), jax.random.key(0), (1, 1, 32, 32, 3))
  assert jax.tree.map(np.shape, weights) == jax.tree.map(np.shape, dict(wanted))
  # XLA would take what is the same everywhere for a single number.
  assert all(np.ptp(leaf) > 0 for leaf in jax.tree.leaves(weights) if np.size(leaf) > 1)


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    ('movinet/a0-strem', r"`movinet models`.*found\.json.*workdir.*mean 'movinet/a0-stream'\?$"),
    ('nowhere/found.json', r'no file or folder'),
    ('', r'no file or folder'),
    (str(TESTS), r'no workdir'),
    (str(TESTS / 'golden/movinet/ckpt_tiny_base_3d/ckpt-1'), r'give --network=NAME, such as'),
    ('gs://bucket/run', r'not on a file system of this machine'),
  ],
)
def test_what_is_neither(text, said):
  with pytest.raises((ValueError, FileNotFoundError), match=said):
    read_network(text)


def test_a_trained_network_is_what_it_is(archived):
  with pytest.raises(ValueError, match=r'mine\.npz is a trained network.*--num-classes, causal'):
    read_network(archived, 5, causal=False)
