"""A recording: in the time it was given, legible, and nothing where nothing came."""

import av
import numpy as np
import pytest
from PIL import Image

from movinet_jax import data, serve
from movinet_jax.serve import recorder


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
  with serve.Recorder(path) as one:
    for i, secs in enumerate(5 + times):
      one.write(np.full((32, 32, 3), 4 * i, np.uint8), [], secs)
  with av.open(path) as container:
    shown = [frame.time for frame in container.decode(video=0)]
    duration_secs = container.duration / av.time_base
  np.testing.assert_allclose(shown, times, atol=1e-3)
  # The last picture stays for as long as the one before it.
  assert duration_secs == pytest.approx(2 * times[-1] - times[-2], abs=2e-3)


def test_times_that_stand_still_lose_no_frame(tmp_path):
  path = str(tmp_path / 'out.mp4')
  with serve.Recorder(path) as one:
    for secs in (0, 0, 0.1, 0.1):
      one.write(np.zeros((33, 35, 3), np.uint8), ['a'], secs)
  frames = [frame for _, frame in data.read_frames(path)]
  assert [frame.shape for frame in frames] == 4 * [(32, 34, 3)]


def test_nothing_shown_leaves_nothing(tmp_path):
  with serve.Recorder(str(tmp_path / 'out.mp4')):
    pass
  assert not list(tmp_path.iterdir())


def test_letters_of_other_alphabets_are_drawn():
  def draw(text):
    picture = Image.new('RGB', (96, 64))
    recorder.draw_lines(picture, [text])
    return np.asarray(picture)

  assert (draw('é') != draw('ü')).any()  # and not twice the box for what is missing


def test_each_letter_is_drawn_in_a_font_that_has_it():
  def name(text):
    return [(path.rpartition('/')[2], run) for path, run in recorder.split_by_font(text)]

  assert name('a $x_1$ é') == [('DejaVuSans.ttf', 'a $x_1$ é')]
  # STIX comes with matplotlib and has letters of phonetics that DejaVu lacks.
  (first, _), (other, run), (last, _) = name('a ᶁ b')
  assert first == last == 'DejaVuSans.ttf'
  assert (other != first, run) == (True, 'ᶁ')
  assert 'LastResort' not in other


def test_letters_that_no_font_has_are_written_as_numbers(monkeypatch):
  first = recorder._list_fonts()[0]
  monkeypatch.setattr(recorder, '_find_font', lambda letter: first if ord(letter) < 99 else None)
  assert list(recorder.split_by_font('a 猫 𓃠')) == [(first, 'a \\u732b \\U000130e0')]


def test_a_dollar_is_a_letter():
  def draw(text):
    picture = Image.new('RGB', (160, 64))
    recorder.draw_lines(picture, [text])
    return np.asarray(picture)

  assert (draw('$a$') != draw('a')).any()


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (2, 3), (5, 1), (33, 1)])
def test_tiny_pictures_are_saved(size, tmp_path):
  path = str(tmp_path / 'out.mp4')
  with serve.Recorder(path) as one:
    for i in range(3):
      one.write(np.full((*size, 3), 100, np.uint8), ['label'], i / 10)
  shapes = {frame.shape for _, frame in data.read_frames(path)}
  assert shapes == {(*(max(2, n - n % 2) for n in size), 3)}
  assert [file.name for file in tmp_path.iterdir()] == ['out.mp4']


def test_a_source_that_changes_its_size_is_saved_in_the_first(tmp_path):
  path = str(tmp_path / 'out.mp4')
  with serve.Recorder(path) as one:
    for i, size in enumerate(((32, 48), (64, 64), (16, 48))):
      one.write(np.full((*size, 3), 200, np.uint8), [], i / 10)
  frames = [frame for _, frame in data.read_frames(path)]
  assert {frame.shape for frame in frames} == {(32, 48, 3)}
  assert frames[1][:20, 24].mean() == pytest.approx(200, abs=6)
  assert frames[1][:20, :4].mean() < 20  # bars at both sides


@pytest.mark.parametrize('after', [0, 70])
def test_no_part_is_left_behind_an_error(after, tmp_path, monkeypatch):
  """Of a stream that fails when it begins, nothing; else what came before."""
  path = str(tmp_path / 'out.mp4')
  one = serve.Recorder(path)

  def fail(*_):
    raise OSError('no room')

  with pytest.raises(OSError, match='no room'), one:  # noqa: PT012
    for i in range(after):
      one.write(np.full((32, 32, 3), i, np.uint8), [], i / 10)
    monkeypatch.setattr(one, '_mux', fail)
    one.write(np.zeros((32, 32, 3), np.uint8), [], 100)
  assert [file.name for file in tmp_path.iterdir()] == (['out.mp4'] if after else [])
