"""Cutting and re-encoding: the right frames, times, size and colours."""

import numpy as np
import pytest

from movinet_jax.data import reader, transcode
from movinet_jax.data.track import open_track
from movinet_jax.data.video import Cut, DecodeError


def whole(info):
  times = np.arange(info.frames) / info.fps
  return Cut(tuple(times), (0, 0, info.width, info.height), (20, 20))


@pytest.mark.parametrize(
  'name',
  ['h265.mp4', 'av1.mkv', 'bt709_full_range.mp4', 'h264_10bit.mp4', 'short_test.avi'],
)
def test_frames_and_colours_stay(videos, tmp_path, name):
  path = str(tmp_path / 'out.mp4')
  count = transcode.write_cut(str(videos / name), path, short_side=100)
  before, _ = reader.read_clip(str(videos / name), whole)
  after, _ = reader.read_clip(path, whole)
  assert len(after) == len(before) == count
  difference = before.astype(float) - after
  assert np.abs(difference).mean() < 3.5
  assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 2
  info, source = reader.probe(path), reader.probe(str(videos / name))
  assert min(info.width, info.height) == 100
  assert info.fps == pytest.approx(source.fps, rel=0.01)


def test_cut_is_the_frames_of_its_time(encode, numbered_frames, tmp_path):
  source = encode(tmp_path / 'in.mp4', numbered_frames(30), fps=10, crf='1')
  path = str(tmp_path / 'out.mp4')
  assert transcode.write_cut(source, path, start_secs=1.2, stop_secs=2.0) == 8
  clip, _ = reader.read_clip(path, whole)
  levels = np.round(clip.mean(axis=(1, 2, 3)) / 8)
  np.testing.assert_array_equal(levels, np.arange(12, 20))


def test_key_frames_are_close_together(videos, tmp_path):
  path = str(tmp_path / 'out.mp4')
  transcode.write_cut(str(videos / 'arm_wrestling_h264.mp4'), path, short_side=64)
  with open_track(path) as track:
    track.scan()
    keys = track.packets.is_key.nonzero()[0].tolist()
  assert max(np.diff(keys)) <= transcode.GOP_FRAMES


def test_failures_leave_no_file(broken, videos, tmp_path):
  path = tmp_path / 'out.mp4'
  with pytest.raises(DecodeError, match=r'it ends at 0\.90 s'):
    transcode.write_cut(str(videos / 'h265.mp4'), str(path), start_secs=5)
  for name in ('cut_faststart.mp4', 'text.mp4', 'hole.mp4'):
    with pytest.raises(DecodeError):
      transcode.write_cut(str(broken / name), str(path))
  assert list(tmp_path.iterdir()) == []


def test_small_and_odd_sizes(encode, tmp_path):
  frames = np.full((3, 21, 33, 3), 90, np.uint8)
  source = encode(tmp_path / 'odd.mkv', frames, codec='ffv1')
  path = str(tmp_path / 'out.mp4')
  transcode.write_cut(source, path)
  info = reader.probe(path)
  assert (info.width, info.height) in {(32, 20), (34, 20), (32, 22), (34, 22)}


def test_a_cut_says_with_each_frame_that_it_goes_on(videos, tmp_path):
  """Frames before the part count, too: a film is decoded from its beginning."""
  seen = []
  path = str(videos / 'long_test_h264.mp4')  # 30 fps
  count = transcode.write_cut(
    path, str(tmp_path / 'a.mp4'), start_secs=1.0, stop_secs=1.5, on_frame=lambda: seen.append(1)
  )
  assert (count, len(seen)) == (15, 46)  # and the frame that is behind the part
