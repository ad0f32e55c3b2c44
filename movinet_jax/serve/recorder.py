"""Writes a video with the predictions burnt into the picture."""

import functools
import itertools
import os
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont, ImageOps

_TIME_BASE = Fraction(1, 90_000)  # of MPEG; holds the times of every usual rate
# Comes with matplotlib. Pillow's own font has no letters but ASCII's.
_FIRST_FONT = 'DejaVu Sans'
# Has a box for every letter there is.
_NO_FONT = 'LastResort'


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
    height, width = (max(n - n % 2, 2) for n in frame.shape[:2])  # what 4:2:0 can hold
    if self._last is None:
      self._stream.height, self._stream.width = height, width
      self._first_secs, self._last = secs, -1
    picture = Image.fromarray(frame[:height, :width])
    size = (self._stream.width, self._stream.height)
    if picture.size != size:  # a picture of one pixel, or a source that changes on the way
      picture = ImageOps.pad(picture, size)
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
    try:
      if self._last is not None:
        self._mux(None)
    finally:
      self._close()

  def _close(self):
    try:
      self._container.close()
    finally:
      # FFmpeg writes nothing before the first packet.
      if os.path.getsize(self._part):
        os.replace(self._part, self._path)
      else:
        os.remove(self._part)


def draw_lines(picture: Image.Image, lines: list[str]):
  """Draws lines of text on a dark band, sized to the picture."""
  size = max(8, picture.height // 16)
  draw = ImageDraw.Draw(picture, 'RGBA')
  top = picture.height - (size + 4) * len(lines) - 4
  draw.rectangle((0, top, picture.width, picture.height), fill=(0, 0, 0, 150))
  for i, line in enumerate(lines):
    left, down = 6.0, top + 2 + i * (size + 4)
    for path, run in split_by_font(line):
      font = ImageFont.truetype(path, size)
      # On one line, however high the letters of the fonts are.
      draw.text((left, down + size), run, font=font, fill=(255, 255, 255), anchor='ls')
      left += font.getlength(run)


def split_by_font(text: str) -> Iterator[tuple[str, str]]:
  """Parts of a text, each with the path of a font that has all its letters.

  A letter that no font of this machine has is written as its number: `\\u732b`.
  """
  first = font_manager.findfont(_FIRST_FONT)
  spelled = []
  for letter in text:
    path = _find_font(letter)
    escape = letter.encode('ascii', 'backslashreplace').decode()
    spelled += [(path, letter)] if path else [(first, one) for one in escape]
  for path, letters in itertools.groupby(spelled, key=lambda pair: pair[0]):
    yield path, ''.join(letter for _, letter in letters)


@functools.cache
def _find_font(letter: str) -> str | None:
  """The path of the first font that has a letter; None if there is none."""
  return next((path for path in _list_fonts() if ord(letter) in _read_letters(path)), None)


@functools.cache
def _list_fonts() -> tuple[str, ...]:
  """The paths of all fonts: the usual one first, then plain ones before slanted and bold ones."""
  fonts = sorted(
    font_manager.fontManager.ttflist,
    key=lambda font: (font.style != 'normal', font.weight not in (400, 'normal'), font.fname),
  )
  others = (font.fname for font in fonts if _NO_FONT not in os.path.basename(font.fname))
  return tuple(dict.fromkeys([font_manager.findfont(_FIRST_FONT), *others]))


@functools.cache
def _read_letters(path: str) -> frozenset[int]:
  try:
    return frozenset(FT2Font(path).get_charmap())
  except (OSError, RuntimeError):  # it was removed, or is none
    return frozenset()
