"""Videos to test on: nine real files, a corpus of broken ones, a small dataset."""

import os
import pathlib
import signal

import av
import numpy as np
import pytest

from movinet_jax.data import motion

VIDEOS = pathlib.Path(__file__).parent.parent / 'fixtures' / 'videos'


@pytest.fixture(scope='session')
def videos() -> pathlib.Path:
  return VIDEOS


@pytest.fixture
def no_hang():
  """Ends a test that waits for ever; the whole run has no other clock."""

  def fail(*_):
    raise TimeoutError('hung for 20 s')

  signal.signal(signal.SIGALRM, fail)
  signal.alarm(20)
  yield
  signal.alarm(0)


@pytest.fixture(scope='session')
def motion_root(tmp_path_factory) -> str:
  """96 small videos of 4 classes, of which 16 are the split val."""
  root = tmp_path_factory.mktemp('motion') / 'videos'
  splits = (('train', 1.0), ('val', 0.2))
  motion.write_motion(str(root), videos_per_class=20, frames=12, size=32, seed=3, splits=splits)
  return str(root)


def _encode(path, frames, *, fps=25, pix_fmt='yuv420p', codec='libx264', **options):
  """Writes uint8 [T, H, W, 3] as it comes, without care for colours."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(codec, rate=fps, options=options)
    stream.width, stream.height = frames.shape[2], frames.shape[1]
    stream.pix_fmt = pix_fmt
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
    container.mux(stream.encode(None))
  return str(path)


def _numbered_frames(count, size=32):
  """Frames whose brightness is their number: 8 times it."""
  levels = np.arange(count, dtype=np.uint8) * 8
  return np.tile(levels[:, None, None, None], (1, size, size, 3))


@pytest.fixture(scope='session')
def encode():
  return _encode


@pytest.fixture(scope='session')
def numbered_frames():
  return _numbered_frames


def _remux(video, path, **options):
  """The same packets in another container."""
  with (
    av.open(str(video)) as source,
    av.open(str(path), 'w', options=options) as output,
  ):
    stream = source.streams.video[0]
    copy = output.add_stream_from_template(stream)
    for packet in source.demux(stream):
      if packet.dts is not None:
        packet.stream = copy
        output.mux(packet)
  return path.read_bytes()


@pytest.fixture(scope='session')
def broken(tmp_path_factory) -> pathlib.Path:
  """Files that look like videos to `ls`; the name says what is wrong."""
  root = tmp_path_factory.mktemp('broken')
  whole = VIDEOS / 'long_test_h264.mp4'
  plain = whole.read_bytes()
  fast = _remux(whole, root / 'fast.mp4', movflags='faststart')
  matroska = _remux(whole, root / 'cut.mkv')
  (root / 'fast.mp4').unlink()
  files = {
    'empty.mp4': b'',
    'text.mp4': b'hello, I am a video\n' * 40,
    'page.mp4': b'<!DOCTYPE html><html><body>404 Not Found</body></html>',
    'header.mp4': plain[:36],
    'cut.mp4': plain[: len(plain) * 6 // 10],
    'cut_faststart.mp4': fast[: len(fast) * 6 // 10],
    'moov_only.mp4': fast[: fast.index(b'mdat') + 4],
    'cut.mkv': matroska[: len(matroska) * 6 // 10],
    'hole.mp4': fast[:20_000] + bytes(195_000) + fast[215_000:],
    'playlist.mp4': b'#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n'
    b'http://10.255.255.1/a.ts\n#EXT-X-ENDLIST\n',
    'concat.mp4': b'ffconcat version 1.0\nfile ' + whole.name.encode() + b'\n',
  }
  for name, content in files.items():
    (root / name).write_bytes(content)
  (root / 'playlist.m3u8').write_bytes(files['playlist.mp4'])
  (root / whole.name).symlink_to(whole)  # so that the concat list would find it
  os.mkfifo(root / 'pipe.mp4')
  (root / 'folder.mp4').mkdir()
  (root / 'dangling.mp4').symlink_to(root / 'nowhere')
  _write_sound(root / 'sound.mp4')
  return root


def _write_sound(path):
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('aac', rate=16_000, layout='mono')
    for _ in range(8):
      silence = np.zeros((1, 1024), np.float32)
      frame = av.AudioFrame.from_ndarray(silence, format='fltp', layout='mono')
      frame.rate = 16_000
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
