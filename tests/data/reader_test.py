"""The reader against real files, broken files, and files made to mislead it."""

import resource
from fractions import Fraction

import av
import numpy as np
import pytest

from movinet_jax.data import reader
from movinet_jax.data.filters import fit_frame
from movinet_jax.data.video import Cut, DecodeError

# width, height, fps, frames, codec: facts of the files, see fixtures/videos/README.md
FILES = {
  'arm_wrestling_h264.mp4': (340, 256, 28, 280, 'h264'),
  'multi_person_h264.mp4': (426, 240, 29.97, 300, 'h264'),
  'long_test_h264.mp4': (340, 256, 30, 300, 'h264'),
  'short_test.avi': (320, 240, 25, 164, 'mpeg4'),
  'nasa_13013_h264.mp4': (320, 180, 25, 325, 'h264'),
  'h265.mp4': (128, 128, 10, 10, 'hevc'),
  'av1.mkv': (640, 360, 25, 125, 'libdav1d'),
  'h264_10bit.mp4': (200, 200, 30, 30, 'h264'),
  'bt709_full_range.mp4': (1280, 720, 30, 30, 'h264'),
}

# All that `broken` holds but a file with a hole, and one that is not there at all.
_NAMES = (
  'empty.mp4 text.mp4 page.mp4 header.mp4 cut.mp4 cut_faststart.mp4 moov_only.mp4 '
  'cut.mkv playlist.mp4 playlist.m3u8 concat.mp4 pipe.mp4 folder.mp4 dangling.mp4 '
  'sound.mp4 nothing_here.mp4'
)
BROKEN = _NAMES.split()


def take(ordinals=None, size=None, **cut):
  """A choose function: these frames, whole picture."""

  def choose(info):
    frames = np.arange(info.frames) if ordinals is None else np.asarray(ordinals)
    return Cut(
      tuple(frames / info.fps),
      (0, 0, info.width, info.height),
      size or (info.height, info.width),
      **cut,
    )

  return choose


def decode_plainly(path):
  """All frames by PyAV's own simplest way, as RGB."""
  with av.open(str(path)) as container:
    return [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]


@pytest.mark.parametrize('name', FILES)
def test_real_file_is_what_it_is(videos, name):
  width, height, fps, frames, codec = FILES[name]
  path = str(videos / name)
  info = reader.probe(path)
  assert (info.width, info.height, info.codec) == (width, height, codec)
  assert info.fps == pytest.approx(fps, abs=0.01)
  assert info.duration_secs == pytest.approx(frames / fps, rel=0.01)
  seen = []
  clip, cut = reader.read_clip(path, lambda i: seen.append(i) or take(None, (8, 8))(i))
  assert seen[0].frames == frames == reader.count_frames(path)
  assert seen[0].duration_secs == pytest.approx(frames / fps, rel=1e-3)
  assert clip.shape == (frames, 8, 8, 3)
  assert clip.std() > 5
  assert cut == take(None, (8, 8))(seen[0])
  assert sum(1 for _ in reader.read_frames(path, choose=take([0], (8, 8)))) == frames


@pytest.mark.parametrize('name', FILES)
def test_frames_are_the_right_ones_in_order(videos, name):
  """Compares pictures with PyAV's plain decoding; neighbours differ, so order counts."""
  path = str(videos / name)
  ordinals = [7, 0, 3, 3, 9]
  clip, _ = reader.read_clip(path, take(ordinals))
  plain = decode_plainly(path)
  for picture, ordinal in zip(clip, ordinals, strict=True):
    near = range(max(0, ordinal - 2), min(ordinal + 3, len(plain)))
    errors = {i: np.abs(picture.astype(int) - plain[i]).mean() for i in near}
    # Plain conversion guesses matrix and range, so only the nearest is asked for; the
    # margin is for a film that begins with a still.
    assert errors[ordinal] <= min(errors.values()) + 0.02, errors


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('ordinals', [range(0, 10, 5), range(1, 9), [9], [8, 2]])
def test_skipping_changes_no_bit(videos, name, ordinals):
  path = str(videos / name)
  fast, _ = reader.read_clip(path, take(ordinals, (64, 64)))
  slow, _ = reader.read_clip(path, take(ordinals, (64, 64)), skip=False)
  everything, _ = reader.read_clip(path, take(None, (64, 64)), skip=False)
  np.testing.assert_array_equal(fast, slow)
  np.testing.assert_array_equal(fast, everything[list(ordinals)])


@pytest.mark.parametrize(
  'coding',
  [
    {'g': '12', 'bf': '3'},
    {'g': '12', 'bf': '3', 'x264-params': 'open-gop=1'},
    {'g': '30', 'bf': '0', 'x264-params': 'intra-refresh=1'},
    {'g': '100', 'bf': '8', 'x264-params': 'b-pyramid=normal'},
  ],
  ids=lambda coding: coding.get('x264-params', 'g=' + coding['g']),
)
@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'ts'])
def test_seeking_and_jumping_change_no_bit(tmp_path, coding, suffix, encode):
  noise = np.random.default_rng(0).normal(0, 6, (90, 48, 48, 3)).cumsum(axis=0) + 128
  frames = np.clip(noise, 0, 255).astype(np.uint8)
  path = encode(tmp_path / f'a.{suffix}', frames, **coding)
  everything, _ = reader.read_clip(path, take(None), skip=False)
  assert len(everything) == 90
  for ordinals in ([70], [40, 41, 42], [3, 80], range(5, 90, 7)):
    clip, _ = reader.read_clip(path, take(ordinals))
    np.testing.assert_array_equal(clip, everything[list(ordinals)])


@pytest.mark.parametrize('name', BROKEN)
def test_broken_file_is_a_clear_error(broken, name, no_hang, monkeypatch):
  monkeypatch.chdir(broken)  # where a concat list would find its files
  path = str(broken / name)
  for read in (
    lambda: reader.read_clip(path, take(None, (16, 16))),
    lambda: list(reader.read_frames(path)),
    lambda: reader.count_frames(path),
  ):
    with pytest.raises(DecodeError) as error:
      read()
    assert error.value.path == path
    assert str(error.value) == f'{path}: {error.value.reason}'


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('moov_only.mp4', 'no frame'),
    ('cut.mp4', 'truncated'),
    ('empty.mp4', 'empty'),
    ('cut_faststart.mp4', 'truncated'),
    ('cut.mkv', 'truncated'),
    ('sound.mp4', 'no video stream'),
    ('folder.mp4', 'folder'),
    ('pipe.mp4', 'not a regular file'),
    ('nothing_here.mp4', 'no such file'),
  ],
)
def test_error_says_what_is_wrong(broken, name, words):
  with pytest.raises(DecodeError, match=words):
    reader.read_clip(str(broken / name), take(None))


def test_damage_within_is_found_where_it_is(broken):
  path = str(broken / 'hole.mp4')
  with pytest.raises(DecodeError):
    reader.read_clip(path, take(None, (16, 16)))
  with pytest.raises(DecodeError):
    reader.count_frames(path)


def test_bytes_and_path_read_alike(videos):
  path = videos / 'h265.mp4'
  by_path, _ = reader.read_clip(str(path), take([1, 5]))
  by_bytes, _ = reader.read_clip(path.read_bytes(), take([1, 5]), name='x')
  np.testing.assert_array_equal(by_path, by_bytes)
  with pytest.raises(DecodeError, match=r'^in/the/set'):
    reader.read_clip(b'no video', take([1]), name='in/the/set')


def test_single_frame_and_single_picture(tmp_path, encode, numbered_frames):
  path = encode(tmp_path / 'one.mp4', numbered_frames(5)[4:])
  clip, _ = reader.read_clip(path, take([0, 0, 0]))
  assert clip.shape[0] == 3
  assert reader.count_frames(path) == 1


def test_too_many_pixels(videos):
  with pytest.raises(DecodeError, match=r'1280x720 has 921,600 pixels.*500,000'):
    reader.read_clip(str(videos / 'bt709_full_range.mp4'), take([0]), max_pixels=500_000)


COLOURS = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 210], [235, 235, 20]])


@pytest.mark.parametrize('range_', ['tv', 'full'])
@pytest.mark.parametrize('matrix', ['bt601', 'bt709', 'untagged'])
@pytest.mark.parametrize('height', [64, 720])
def test_colours_are_right(tmp_path, range_, matrix, height, encode):
  """Patches of known colours, coded in each matrix and range and tagged so."""
  frame = np.repeat(COLOURS[None].astype(np.uint8), height, 0).repeat(32, 1)
  path = tmp_path / 'a.mp4'
  actual = {'untagged': 'bt709' if height >= 720 else 'bt601'}.get(matrix, matrix)
  graph = av.filter.Graph()
  nodes = [
    graph.add_buffer(width=128, height=height, format='rgb24', time_base=1),
    graph.add('scale', out_color_matrix=actual, out_range=range_),
    graph.add('format', 'yuv444p'),
    graph.add('buffersink'),
  ]
  graph.link_nodes(*nodes).configure()
  graph.vpush(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24'))
  picture = graph.vpull()
  code = {'bt601': 5, 'bt709': 1, 'untagged': 2}[matrix]
  tags = {'colorspace': code, 'color_range': {'tv': 1, 'full': 2}[range_]}
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=25, options={'crf': '1'})
    stream.width, stream.height, stream.pix_fmt = 128, height, 'yuv444p'
    for name, value in tags.items():
      setattr(stream.codec_context, name, value)
      setattr(picture, name, value)
    picture.pts = None
    container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  clip, _ = reader.read_clip(str(path), take([0]))
  patches = clip[0].reshape(height, 4, 32, 3)[height // 4 : -height // 4, :, 8:-8]
  np.testing.assert_allclose(patches.mean(axis=(0, 2)), COLOURS, atol=3)


def test_box_size_and_flip(tmp_path, encode):
  """A picture that says where each of its pixels is."""
  ramp = np.zeros((2, 64, 96, 3), np.uint8)
  ramp[..., 0] = 2 * np.arange(96)
  ramp[..., 1] = 2 * np.arange(64)[:, None]
  path = encode(tmp_path / 'ramp.mp4', ramp, pix_fmt='yuv444p', crf='1')
  box = (20.2, 9.8, 41.0, 31.0)  # odd offsets and odd sizes
  clip, _ = reader.read_clip(path, lambda i: Cut((0.0,), box, (31, 41)))
  np.testing.assert_allclose(clip[0], ramp[0, 10:41, 20:61], atol=4)
  flipped, _ = reader.read_clip(path, lambda i: Cut((0.0,), box, (31, 41), flip=True))
  np.testing.assert_array_equal(flipped[0], clip[0, :, ::-1])
  small, _ = reader.read_clip(path, lambda i: Cut((0.0,), (0, 0, 96, 64), (8, 12)))
  assert int(small[0, 0, 0, 0]) == pytest.approx(7, abs=4)
  assert int(small[0, -1, -1, 1]) == pytest.approx(119, abs=4)


@pytest.mark.parametrize('box', [(0, 0, 1, 1), (32, 20, 1, 1), (0, 3, 33, 1)])
def test_odd_sizes_and_tiny_boxes(tmp_path, box, encode):
  frames = np.full((3, 21, 33, 3), 90, np.uint8)
  path = encode(tmp_path / 'odd.mkv', frames, codec='ffv1', pix_fmt='yuv420p')
  clip, _ = reader.read_clip(path, lambda i: Cut((0.0,), box, (7, 9)))
  assert clip.shape == (1, 7, 9, 3)
  np.testing.assert_allclose(clip, 90, atol=3)


@pytest.mark.parametrize('degrees', [90, 180, 270])
def test_phone_videos_are_shown_upright(tmp_path, degrees, encode):
  """Rotation is counter-clockwise: the coded top row is shown on the left at 90."""
  coded = np.zeros((3, 32, 64, 3), np.uint8)
  coded[:, :8] = 220
  path = tmp_path / 'phone.mp4'
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=25, options={'crf': '5'})
    stream.width, stream.height, stream.pix_fmt = 64, 32, 'yuv420p'
    stream.set_display_rotation(degrees)
    for frame in coded:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
    container.mux(stream.encode(None))
  wanted = np.rot90(coded[0], degrees // 90)
  clip, _ = reader.read_clip(str(path), take([0]))
  assert clip[0].shape == wanted.shape
  np.testing.assert_allclose(clip[0], wanted, atol=12)
  (_, live), *_ = reader.read_frames(str(path))
  np.testing.assert_array_equal(live, clip[0])


def test_variable_rate_is_read_by_time(tmp_path, encode, numbered_frames):
  """Ten frames 40 ms apart, then ten 200 ms apart."""
  frames = numbered_frames(20)
  times_ms = [*range(0, 400, 40), *range(400, 2400, 200)]
  path = str(tmp_path / 'vfr.mkv')
  with av.open(path, 'w') as container:
    stream = container.add_stream('libx264', rate=25, options={'crf': '1'})
    stream.width = stream.height = 32
    stream.pix_fmt = 'yuv420p'
    stream.codec_context.time_base = Fraction(1, 1000)
    for frame, at_ms in zip(frames, times_ms, strict=True):
      picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
      picture.pts, picture.time_base = at_ms, Fraction(1, 1000)
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
  times = (0.2, 0.41, 0.79, 0.81, 2.2)
  clip, _ = reader.read_clip(path, lambda i: Cut(times, (0, 0, 32, 32), (4, 4)))
  levels = np.round(clip.mean(axis=(1, 2, 3)) / 8)
  np.testing.assert_array_equal(levels, [5, 10, 12, 12, 19])


def test_live_frames_equal_clip_frames(videos):
  for name in ('av1.mkv', 'short_test.avi'):
    path = str(videos / name)
    clip, _ = reader.read_clip(path, take(range(12), (64, 64)))
    live = reader.read_frames(path, choose=take([0], (64, 64)))
    secs = []
    for wanted, (at_secs, frame) in zip(clip, live, strict=False):
      secs.append(at_secs)
      np.testing.assert_array_equal(frame, wanted)
    np.testing.assert_allclose(secs, np.arange(12) / 25, atol=1e-3)


def test_live_frames_at_a_lower_rate(videos):
  path = str(videos / 'nasa_13013_h264.mp4')  # 25 fps, 13 s
  secs = [at for at, _ in reader.read_frames(path, fps=5, choose=take([0], (4, 4)))]
  np.testing.assert_allclose(secs, np.arange(65) / 5, atol=1e-6)
  secs = [at for at, _ in reader.read_frames(path, fps=10, choose=take([0], (4, 4)))]
  assert len(secs) == 130
  assert max(abs(at - i / 10) for i, at in enumerate(secs)) < 0.04


def test_no_camera_is_a_clear_error():
  with pytest.raises(DecodeError, match='camera'):
    next(iter(reader.read_frames(97)))


def test_fit_frame_agrees_with_reading(videos):
  path = str(videos / 'long_test_h264.mp4')
  cut = Cut((0.0,), (42, 0, 256, 256), (96, 96))
  direct, _ = reader.read_clip(path, lambda i: cut)
  whole, _ = reader.read_clip(path, take([0]))
  difference = np.abs(fit_frame(whole[0], cut).astype(int) - direct[0])
  assert difference.mean() < 1.5


def test_opening_many_times_keeps_no_memory(videos):
  path = str(videos / 'h265.mp4')

  def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

  for _ in range(50):
    reader.read_clip(path, take([0, 5], (32, 32)))
  before = peak_mib()
  for _ in range(500):
    reader.read_clip(path, take([0, 5], (32, 32)))
  assert peak_mib() - before < 20


@pytest.mark.parametrize('suffix', ['mp4', 'mkv'])
def test_a_last_picture_shown_for_long_is_not_missing(suffix, tmp_path):
  """A recorded screen that stands still at the end: complete, and cut short."""
  path, tick = tmp_path / f'still.{suffix}', Fraction(1, 1000)
  noise = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
  options = {'movflags': 'faststart'} if suffix == 'mp4' else {}
  with av.open(str(path), 'w', options=options) as output:
    stream = output.add_stream('libx264', options={'tune': 'zerolatency'})
    stream.width = stream.height = 64
    stream.pix_fmt, stream.codec_context.time_base = 'yuv420p', tick
    for number, picture in enumerate(noise):
      picture = av.VideoFrame.from_ndarray(picture, format='rgb24')
      picture.pts, picture.time_base = 100 * number, tick
      for packet in stream.encode(picture):
        packet.duration = 100 if number < 5 else 5000
        output.mux(packet)
    output.mux(stream.encode(None))
  assert reader.count_frames(str(path)) == 6
  assert len(list(reader.read_frames(str(path)))) == 6
  assert reader.read_clip(str(path), take(None))[0].shape[0] == 6
  content = path.read_bytes()
  path.write_bytes(content[: len(content) * 6 // 10])
  with pytest.raises(DecodeError, match=r'states 5\.50 s but holds 0\.\d\d s'):
    reader.count_frames(str(path))
  with pytest.raises(DecodeError, match=r'states 5\.50 s but holds 0\.\d\d s'):
    reader.read_clip(str(path), take(None))
  with pytest.raises(DecodeError):
    list(reader.read_frames(str(path)))
