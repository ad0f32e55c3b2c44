"""Writes a video with the predictions burnt into the picture."""

import functools
import os
from fractions import Fraction

import av
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

_TIME_BASE = Fraction(1, 90_000)  # of MPEG; holds the times of every usual rate


class Recorder:
  """An H.264 file that frames are appended to; use as a context manager.

  It is written beside the path and moved there when it is closed, also after an error:
  what a camera has shown cannot be had again.
  """

  def __init__(self, path: str):
    """Opens the file; the size of the picture is that of the first frame.

    Raises:
      FileExistsError: the path is taken: nothing is overwritten.
      OSError: its folder is not there, or nothing can be written to it.
    """
    if os.path.exists(path):
      raise FileExistsError(f'{path} exists already: remove it, or save to another file')
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
      raise FileNotFoundError(f'cannot save {path}: its folder is not there')
    self._path = path
    root, suffix = os.path.splitext(path)
    self._part = f'{root}.{os.getpid()}.part{suffix or ".mp4"}'
    open(self._part, 'wb').close()  # fails now; FFmpeg opens it with the first packet
    self._container = av.open(self._part, 'w', format='mp4')
    self._stream = self._container.add_stream('libx264')
    self._stream.pix_fmt = 'yuv420p'
    self._stream.codec_context.time_base = _TIME_BASE
    # MP4 counts durations in decoding order: with B frames, uneven times come out short.
    self._stream.codec_context.max_b_frames = 0
    self._last, self._gap = None, 0

  def write(self, frame: np.ndarray, lines: list[str], secs: float):
    """Appends a frame uint8 [H, W, 3] with lines of text over its lower left corner.

    `secs` is when it is shown, later than the frame before.
    """
    height, width = (n - n % 2 for n in frame.shape[:2])  # what 4:2:0 can hold
    if self._last is None:
      self._stream.height, self._stream.width = height, width
      self._first_secs, self._last = secs, -1
    picture = Image.fromarray(frame[:height, :width])
    draw_lines(picture, lines)
    picture = av.VideoFrame.from_image(picture)
    at = max(round((secs - self._first_secs) / _TIME_BASE), self._last + 1)
    self._last, self._gap = at, at - self._last
    picture.pts, picture.time_base = at, _TIME_BASE
    self._mux(picture)

  def _mux(self, picture: av.VideoFrame | None):
    for packet in self._stream.encode(picture):
      packet.duration = self._gap  # of the last one only: the others end with the next
      self._container.mux(packet)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._last is not None:
      self._mux(None)
    self._container.close()
    if self._last is not None:
      os.replace(self._part, self._path)
    else:
      os.remove(self._part)


def draw_lines(picture: Image.Image, lines: list[str]):
  """Draws lines of text on a dark band, sized to the picture."""
  size = max(8, picture.height // 16)
  font = _load_font(size)
  draw = ImageDraw.Draw(picture, 'RGBA')
  top = picture.height - (size + 4) * len(lines) - 4
  draw.rectangle((0, top, picture.width, picture.height), fill=(0, 0, 0, 150))
  for i, line in enumerate(lines):
    draw.text((6, top + 2 + i * (size + 4)), line, font=font, fill=(255, 255, 255))


@functools.cache
def _load_font(size: int):
  # Pillow's own has no letters but ASCII's; this one comes with matplotlib.
  return ImageFont.truetype(font_manager.findfont('DejaVu Sans'), size)
