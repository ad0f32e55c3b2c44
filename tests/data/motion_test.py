"""Motion videos: equal bytes, and the proof that only motion tells the classes apart."""

import glob
import os
import pathlib

import numpy as np
import pytest

from movinet_jax import data
from movinet_jax.data import EvalClip, motion

CLASSES = tuple(motion.PATTERNS)


@pytest.fixture(scope='module')
def decoded(tmp_path_factory):
  """Videos [V, T, H, W, 3] and labels [V] of both splits, as read back from files."""
  root = str(tmp_path_factory.mktemp('motion') / 'videos')
  motion.write_motion(
    root, videos_per_class=60, frames=16, size=48, seed=7, splits=(('a', 1), ('b', 1))
  )
  clip, splits = EvalClip(16, 48, stride=1), {}
  for split in 'ab':
    source = data.open_source('folder', root=root, split=split)
    with data.make_batches(source, clip, batch_size=60, train=False) as batches:
      rows = list(batches)
    videos = np.concatenate([row['video'] for row in rows])
    labels = np.concatenate([row['label'] for row in rows])
    assert len(videos) == 240
    splits[split] = videos, labels
  return splits, source.labels


def grey(frames):
  return frames.astype(np.float32).mean(axis=-1) / 255 - 0.5


def flat_spectrum(frames):
  """Power at each frequency: what a frame looks like wherever it starts."""
  return np.log(np.abs(np.fft.rfft2(grey(frames))) + 0.05).reshape(len(frames), -1)


FEATURES = {
  'pixels': lambda frames: grey(frames).reshape(len(frames), -1),
  'spectrum': flat_spectrum,
  # Where coding would leave traces of motion: contrast near each of the four edges.
  'edges': lambda frames: np.stack(
    [grey(part).std(axis=(1, 2)) for part in (
      frames[:, :4], frames[:, -4:], frames[:, :, :4], frames[:, :, -4:], frames)],
    axis=1,
  ),
}  # fmt: skip


@pytest.mark.parametrize('probe', ['linear', 'nearest'])
@pytest.mark.parametrize('feature', FEATURES)
def test_single_frames_tell_nothing(decoded, feature, probe):
  """Probes trained on frames of 240 videos, tried on frames of 240 others."""
  (videos, labels), (others, wanted) = decoded[0]['a'], decoded[0]['b']
  right = []
  for at in (0, 5, 10, 15):
    known, new = FEATURES[feature](videos[:, at]), FEATURES[feature](others[:, at])
    mean, deviation = known.mean(0), known.std(0) + 1e-3
    known, new = (known - mean) / deviation, (new - mean) / deviation
    if probe == 'linear':
      gram = known.T @ known + 0.1 * len(known) * np.eye(known.shape[1])
      weights = np.linalg.solve(gram, known.T @ np.eye(4)[labels])
      guess = (new @ weights).argmax(1)
    else:
      distances = (new**2).sum(1)[:, None] - 2 * new @ known.T + (known**2).sum(1)
      guess = labels[distances.argmin(1)]
    right.append(guess == wanted)
  # Chance is .25; frames of a video are not independent, so its deviation is .014 to .028.
  # Coded with differences between frames, 'spectrum-linear' gets .32 here.
  assert abs(np.mean(right) - 0.25) < 0.05


def test_single_frames_have_equal_statistics(decoded):
  videos, labels = decoded[0]['a']
  means = np.array([videos[labels == c].mean() for c in range(4)])
  deviations = np.array([videos[labels == c].std() for c in range(4)])
  assert np.ptp(means) < 0.5
  assert np.ptp(deviations) < 0.5
  assert deviations.min() > 30  # there is something to see


def shifts(videos):
  """Pixels right and down from frame to frame, [V, T-1, 2], by the phase of one wave."""
  waves = np.fft.fft2(grey(videos))
  turned = waves[:, 1:] * waves[:, :-1].conj()
  size = videos.shape[2]
  right, down = turned[..., 0, 1], turned[..., 1, 0]
  return -np.angle(np.stack([right, down], axis=-1)) * size / (2 * np.pi)


def test_motion_tells_everything(decoded):
  (videos, labels), names = decoded[0]['b'], decoded[1]
  wanted = {'left': (-2, 0), 'right': (2, 0), 'up': (0, -2), 'down': (0, 2)}
  found = np.median(shifts(videos), axis=1)
  table = np.array([wanted[name] for name in names])
  guess = ((found[:, None] - table) ** 2).sum(-1).argmin(1)
  assert (guess == labels).mean() > 0.98


@pytest.mark.parametrize('name', CLASSES)
def test_pattern_moves_as_it_says(name):
  made = motion.Motion(classes=(name,), frames=17, size=48, speed=2.0)
  steps = shifts(motion.make_frames(made, 'train', name, 0)[None])[0]
  np.testing.assert_allclose(steps, 2.0 * motion.PATTERNS[name](17)[1:], atol=0.3)
  speeds = np.linalg.norm(motion.PATTERNS[name](17), axis=1)
  np.testing.assert_allclose(speeds, 1.0)


def test_equal_arguments_give_equal_bytes(tmp_path):
  arguments = {'videos_per_class': 5, 'frames': 12, 'size': 32, 'classes': CLASSES}
  contents = []
  for name, seed in (('a', 1), ('b', 1), ('c', 2)):
    root = str(tmp_path / name)
    count = motion.write_motion(root, seed=seed, **arguments)
    files = sorted(glob.glob(f'{root}/*/*/*.mp4'))
    assert len(files) == count == len(CLASSES) * (5 + 1)
    contents.append([pathlib.Path(file).read_bytes() for file in files])
  assert contents[0] == contents[1]
  assert not set(contents[0]) & set(contents[2])
  assert len(set(contents[0])) == count  # no video twice


def test_never_half_and_never_over_something_else(tmp_path, monkeypatch):
  root = str(tmp_path / 'videos')
  arguments = {'videos_per_class': 2, 'frames': 4, 'size': 16}
  write = motion.write_video

  def stop(path, *rest):
    if '00001' in path:
      raise KeyboardInterrupt
    write(path, *rest)

  monkeypatch.setattr(motion, 'write_video', stop)
  with pytest.raises(KeyboardInterrupt):
    motion.write_motion(root, **arguments)
  assert not os.path.exists(root)
  monkeypatch.setattr(motion, 'write_video', write)
  count = motion.write_motion(root, **arguments)
  monkeypatch.setattr(motion, 'write_video', stop)
  assert motion.write_motion(root, **arguments) == count  # is there: nothing written
  with pytest.raises(FileExistsError, match='something else'):
    motion.write_motion(root, **{**arguments, 'seed': 9})


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ({'classes': ('lef',)}, "no motion 'lef'; did you mean 'left'"),
    ({'frames': 1}, 'frames=1'),
    ({'size': 33}, 'even'),
  ],
)
def test_wrong_arguments(tmp_path, arguments, words):
  with pytest.raises(ValueError, match=words):
    motion.write_motion(str(tmp_path / 'x'), **arguments)
