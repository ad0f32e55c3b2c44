"""A recording: in the time it was given, legible, and nothing where nothing came."""

import av
import numpy as np
import pytest
from PIL import Image

from movinet_jax import data, serve


@pytest.mark.parametrize(
  'times',
  [
    np.arange(8) / 10,
    np.arange(60) / 60,
    np.array([0, 0.2, 0.4, 0.6, 1, 1.5, 2, 2.5, 3, 4, 4.2]),  # x264 would take B frames
  ],
)
def test_plays_in_the_time_it_was_given(times, tmp_path):
  path = str(tmp_path / 'out.mp4')
  with serve.Recorder(path) as recorder:
    for i, secs in enumerate(5 + times):
      recorder.write(np.full((32, 32, 3), 4 * i, np.uint8), [], secs)
  with av.open(path) as container:
    shown = [frame.time for frame in container.decode(video=0)]
    duration_secs = container.duration / av.time_base
  np.testing.assert_allclose(shown, times, atol=1e-3)
  # The last picture stays for as long as the one before it.
  assert duration_secs == pytest.approx(2 * times[-1] - times[-2], abs=2e-3)


def test_times_that_stand_still_lose_no_frame(tmp_path):
  path = str(tmp_path / 'out.mp4')
  with serve.Recorder(path) as recorder:
    for secs in (0, 0, 0.1, 0.1):
      recorder.write(np.zeros((33, 35, 3), np.uint8), ['a'], secs)
  frames = [frame for _, frame in data.read_frames(path)]
  assert [frame.shape for frame in frames] == 4 * [(32, 34, 3)]


def test_nothing_shown_leaves_nothing(tmp_path):
  with serve.Recorder(str(tmp_path / 'out.mp4')):
    pass
  assert not list(tmp_path.iterdir())


def test_letters_of_other_alphabets_are_drawn():
  def draw(text):
    picture = Image.new('RGB', (96, 64))
    serve.recorder.draw_lines(picture, [text])
    return np.asarray(picture)

  assert (draw('é') != draw('ü')).any()  # and not twice the box for what is missing
