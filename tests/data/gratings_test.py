"""Gratings: one frame tells how they lean, and only neighbours tell how they move."""

import numpy as np
import pytest

from movinet_jax import data
from movinet_jax.data import EvalClip, motion

WAVES = 2  # periods of a grating in a picture


def read(root, classes):
  """Decoded videos as names of their classes and spectra `[V, T, H, W]`."""
  source = data.open_source(
    'motion', root=root, split='train', classes=classes, videos_per_class=60, frames=32, size=32
  )
  clip = EvalClip(32, 32, stride=1)
  with data.make_batches(source, clip, batch_size=60, train=False) as batches:
    rows = [(row['video'], row['label']) for row in batches]
  videos, labels = map(np.concatenate, zip(*rows, strict=True))
  grey = videos.astype(np.float32).mean(-1) - 128
  return np.array(source.labels)[labels], np.fft.fft2(grey)


@pytest.fixture(scope='module')
def moving(tmp_path_factory):
  return read(str(tmp_path_factory.mktemp('moving') / 'videos'), motion.GRATINGS)


@pytest.fixture(scope='module')
def still(tmp_path_factory):
  return read(str(tmp_path_factory.mktemp('still') / 'videos'), motion.LEANS)


def find_waves(spectra):
  """The waves that rise and fall, `[2, V, T]`."""
  return np.stack([spectra[..., WAVES, WAVES], spectra[..., -WAVES, WAVES]])


def share_of_leans(names, power):
  """How often the stronger of two waves, `[2, …]`, leans as the class says."""
  rising = np.array([name.startswith('rising') for name in names])
  guess = power[0] > power[1]
  return np.mean(guess == rising.reshape(-1, *[1] * (guess.ndim - 1)))


def share_of_ways(names, waves, apart):
  """How often the class's wave turns as it moves, over all pairs of frames so far apart."""
  rising = np.array([name.startswith('rising') for name in names])
  wave = np.where(rising[:, None], *waves)
  turn = (wave[:, apart:] * wave[:, : wave.shape[1] - apart].conj()).sum(1)
  right = np.array([name.endswith('right') for name in names])
  return np.mean((turn.imag < 0) == right)


def test_one_frame_tells_the_lean(moving):
  names, spectra = moving
  assert share_of_leans(names, abs(find_waves(spectra))) > 0.98


@pytest.mark.parametrize('apart', [1, 2])
def test_neighbours_tell_the_motion(moving, apart):
  assert share_of_ways(moving[0], find_waves(moving[1]), apart) > 0.98


@pytest.mark.parametrize('apart', [4, 8, 16])
def test_frames_of_a_sparse_stream_do_not_tell_the_motion(moving, apart):
  """Of 240 videos; the deviation of chance is .032."""
  assert abs(share_of_ways(moving[0], find_waves(moving[1]), apart) - 0.5) < 0.1


@pytest.mark.parametrize(
  ('apart', 'least', 'most'), [(0, 0.35, 0.65), (1, 0.9, 1.0), (8, 0.35, 0.65)]
)
def test_no_other_wave_tells_more(moving, apart, least, most):
  """A linear probe of how all low waves turn, taught on half of the videos.

  With `apart` 0 it sees all frames, one by one.
  """
  names, spectra = moving
  low = np.concatenate([spectra[:, :, :5, :5], spectra[:, :, -4:, :5]], axis=2)
  turns = (low[:, apart:] * low[:, : low.shape[1] - apart].conj()).mean(1).reshape(len(names), -1)
  features = np.concatenate([turns.real, turns.imag], axis=1)
  features /= features.std(0) + 1e-3 * features.std()
  right = np.array([name.endswith('right') for name in names]) * 2.0 - 1
  order = np.random.default_rng(0).permutation(len(names))
  known, new = order[::2], order[1::2]
  gram = features[known].T @ features[known] + len(known) * np.eye(features.shape[1])
  weights = np.linalg.solve(gram, features[known].T @ right[known])
  assert least <= np.mean((features[new] @ weights > 0) == (right[new] > 0)) <= most


def test_a_grating_that_only_leans_is_anywhere_in_each_frame(still):
  names, spectra = still
  waves = find_waves(spectra)
  assert share_of_leans(names, abs(waves)) > 0.98
  wave = np.where([[name == 'rising'] for name in names], *waves)
  turns = wave[:, 1:] * wave[:, :-1].conj()
  # The mean of 31 random directions is .16 long.
  assert abs((turns / abs(turns)).mean(1)).mean() < 0.25


def test_no_class_is_brighter(moving):
  names, spectra = moving
  means = [spectra[names == name][..., 0, 0].real.mean() / 32**2 for name in motion.GRATINGS]
  assert np.ptp(means) < 0.5


def test_the_wrong_name_of_a_grating_names_the_nearest():
  with pytest.raises(ValueError, match="no motion 'rising-lft'; did you mean 'rising-left'"):
    motion.Motion(classes=('rising-lft',))
