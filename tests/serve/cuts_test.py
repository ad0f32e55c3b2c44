"""Cuts are found between real clips, and not within them."""

import itertools
import pathlib

import numpy as np
import pytest

from movinet_jax import serve
from movinet_jax.data.address import File
from movinet_jax.data.live import Painting, open_feed
from movinet_jax.data.ticks import Shown
from movinet_jax.serve.cuts import THRESHOLD, Sketch, _shrink

VIDEOS = pathlib.Path(__file__).parents[1] / 'fixtures' / 'videos'
NAMES = sorted(path.name for path in VIDEOS.iterdir() if path.suffix in ('.mp4', '.mkv', '.avi'))
CUTS = {'nasa_13013_h264.mp4': [202]}  # a film that has one


@pytest.fixture(scope='module')
def sketches():
  """All frames of the nine clips."""
  found = {}
  for name in NAMES:
    painting = Painting(_shrink)
    with open_feed(File(str(VIDEOS / name))) as feed:
      found[name] = [Sketch.draw(painting.paint(shown)) for shown in feed.frames()]
  return found


def test_real_clips_have_the_cuts_that_they_have(sketches):
  assert len(sketches) == 9
  most = {}
  for name, frames in sketches.items():
    differences = [b.compare(a) for a, b in itertools.pairwise(frames)]
    cuts = [i + 1 for i, difference in enumerate(differences) if difference > THRESHOLD]
    assert cuts == CUTS.get(name, []), name
    most[name] = max(d for i, d in enumerate(differences) if i + 1 not in cuts)
  assert max(most.values()) < 0.9 * THRESHOLD, most


def test_every_join_of_two_clips_is_a_cut(sketches):
  joins = {
    (a, b): sketches[b][0].compare(sketches[a][-1]) for a, b in itertools.permutations(NAMES, 2)
  }
  assert len(joins) == 72
  assert min(joins.values()) > 1.1 * THRESHOLD, min(joins.items(), key=lambda item: item[1])


def test_scenes_are_counted_from_frame_to_frame():
  path = str(VIDEOS / 'h265.mp4')
  other = str(VIDEOS / 'h264_10bit.mp4')
  with open_feed(File(path)) as one, open_feed(File(other)) as two:
    frames = [*itertools.islice(one.frames(), 5), *itertools.islice(two.frames(), 5)]
    scenes = [shown.scene for shown in serve.mark_scenes(frames)]
  assert scenes == [0] * 5 + [1] * 5
  assert isinstance(frames[0], Shown)


@pytest.mark.parametrize('change', ['pan', 'light', 'noise'])
def test_what_is_no_cut(change):
  rng = np.random.default_rng(0)
  rows = rng.uniform(0, 255, (12, 20, 3)).repeat(8, 0).repeat(8, 1)
  before, after = rows[:64, :64], rows[:64, :64]
  if change == 'pan':
    after = rows[12:76, 16:80]  # a quarter of the picture at once
  elif change == 'light':
    after = after * 0.8
  else:
    after = after + rng.normal(0, 20, after.shape)
  a, b = (Sketch.draw(np.clip(picture, 0, 255).astype(np.uint8)) for picture in (before, after))
  assert b.compare(a) < THRESHOLD
