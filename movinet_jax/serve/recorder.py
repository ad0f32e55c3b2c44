"""Writes a video with the predictions burnt into the picture."""

import os
from fractions import Fraction

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont


class Recorder:
  """An H.264 file that frames are appended to; use as a context manager.

  It is written beside the path and moved there when it is closed whole, so a stop leaves
  an older file as it was.
  """

  def __init__(self, path: str, fps: float):
    """Opens the file; the size of the picture is that of the first frame.

    Raises:
      FileExistsError: the path is taken: nothing is overwritten.
    """
    if os.path.exists(path):
      raise FileExistsError(
        f'{path} exists already: remove it, or save to another file'
      )
    self._path = path
    root, suffix = os.path.splitext(path)
    self._part = f'{root}.part{suffix or ".mp4"}'
    self._container = av.open(self._part, 'w', format='mp4')
    rate = Fraction(fps).limit_denominator(1001)
    self._stream = self._container.add_stream('libx264', rate=rate)
    self._stream.pix_fmt = 'yuv420p'
    self._begun = False

  def write(self, frame: np.ndarray, lines: list[str]):
    """Appends a frame uint8 [H, W, 3] with lines of text over its lower left corner."""
    height, width = (n - n % 2 for n in frame.shape[:2])  # what 4:2:0 can hold
    if not self._begun:
      self._stream.height, self._stream.width = height, width
      self._begun = True
    picture = Image.fromarray(frame[:height, :width])
    draw_lines(picture, lines)
    for packet in self._stream.encode(av.VideoFrame.from_image(picture)):
      self._container.mux(packet)

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    if self._begun:
      for packet in self._stream.encode():
        self._container.mux(packet)
    self._container.close()
    if kind is None and self._begun:
      os.replace(self._part, self._path)
    else:
      os.remove(self._part)


def draw_lines(picture: Image.Image, lines: list[str]):
  """Draws lines of text on a dark band, sized to the picture."""
  size = max(8, picture.height // 16)
  font = ImageFont.load_default(size)
  draw = ImageDraw.Draw(picture, 'RGBA')
  top = picture.height - (size + 4) * len(lines) - 4
  draw.rectangle((0, top, picture.width, picture.height), fill=(0, 0, 0, 150))
  for i, line in enumerate(lines):
    draw.text((6, top + 2 + i * (size + 4)), line, font=font, fill=(255, 255, 255))
