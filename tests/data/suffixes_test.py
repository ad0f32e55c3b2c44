"""Files of every suffix that a folder takes, as far as FFmpeg can write them, are read."""

import av
import numpy as np
import pytest

from movinet_jax.data import Cut, open_source, reader

FRAMES = 12
# Format, encoder and what differs from 64x64 at 25 frames a second.
WRITTEN = {
  'm2ts': ('mpegts', 'libx264'),
  'mts': ('mpegts', 'mpeg2video'),
  'vob': ('vob', 'mpeg2video'),
  'm2v': ('mpeg2video', 'mpeg2video'),
  'mpe': ('mpeg', 'mpeg1video'),
  'h264': ('h264', 'libx264'),
  'mjpeg': ('mjpeg', 'mjpeg', {'pix_fmt': 'yuvj420p'}),
  'dv': ('dv', 'dvvideo', {'size': (720, 576)}),
  'gif': ('gif', 'gif', {'pix_fmt': 'rgb8'}),
  'apng': ('apng', 'apng', {'pix_fmt': 'rgb24'}),
  'mxf': ('mxf', 'mpeg2video'),
  'asf': ('asf', 'wmv2'),
  'rm': ('rm', 'rv20'),
  'divx': ('avi', 'mpeg4'),
  'f4v': ('f4v', 'libx264'),
  'qt': ('mov', 'mpeg4'),
  '3g2': ('3g2', 'mpeg4'),
  'nut': ('nut', 'mpeg4'),
  'wtv': ('wtv', 'mpeg2video'),
  'ivf': ('ivf', 'libvpx'),
}


def write_video(path, kind, codec, *, size=(64, 64), pix_fmt='yuv420p'):
  """Frames as bright as their number: 16 times it."""
  with av.open(str(path), 'w', format=kind) as container:
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    for number in range(FRAMES):
      picture = np.full((size[1], size[0], 3), 16 * number, np.uint8)
      frame = av.VideoFrame.from_ndarray(picture, format='rgb24').reformat(format=pix_fmt)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.mark.parametrize('suffix', WRITTEN)
def test_a_file_of_this_suffix_is_taken_and_read(suffix, tmp_path):
  kind, codec, *more = WRITTEN[suffix]
  (tmp_path / 'a').mkdir()
  write_video(tmp_path / 'a' / f'x.{suffix.upper()}', kind, codec, **(more[0] if more else {}))
  (record,) = open_source('folder', root=str(tmp_path)).records
  assert reader.count_frames(record.video) == FRAMES
  assert reader.probe(record.video).width >= 64

  def choose(info):
    assert info.fps == pytest.approx(25, rel=0.05)
    return Cut((0.0, 3 / info.fps, 8 / info.fps), (0, 0, 64, 64), (8, 8))

  clip, _ = reader.read_clip(record.video, choose)
  assert clip.mean((1, 2, 3)) / 16 == pytest.approx([0, 3, 8], abs=0.3)
