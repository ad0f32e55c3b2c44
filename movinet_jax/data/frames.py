"""Videos as folders of numbered pictures, such as clip/frame_000001.jpg.

Only the pictures that are wanted are decoded, each file by the codec that its first bytes name.
They are cropped, scaled and converted as frames of video files are. A gap in the numbers, a
picture that cannot be decoded or one of another size is a `DecodeError`.
"""

import collections
import dataclasses
import fractions
import io
import os
import re
from collections.abc import Callable, Iterator
from typing import Annotated

import av
import av.error
import numpy as np
from PIL import Image

from movinet_jax.data import timeline
from movinet_jax.data.filters import Painter, Turn, shown_size
from movinet_jax.data.spelling import spell
from movinet_jax.data.track import MAX_PIXELS
from movinet_jax.data.video import Cut, DecodeError, VideoInfo, say_error
from movinet_jax.schema import Parse, Positive

PICTURE_SUFFIXES = frozenset({'.jpg', '.jpeg', '.png', '.webp', '.bmp'})
# By the first bytes of a file, because a suffix may be wrong.
_CODECS = {b'\xff\xd8': 'mjpeg', b'\x89PNG': 'png', b'RIFF': 'webp', b'BM': 'bmp'}
# In JPEG and WebP, in PNG, and as WebP names the part of the file.
_EXIF_MARKS = (b'Exif', b'eXIf', b'EXIF')
_ORIENTATION = 0x0112
# By EXIF's number of the orientation.
_TURNS = {
  2: Turn(hflip=True),
  3: Turn(hflip=True, vflip=True),
  4: Turn(vflip=True),
  5: Turn(transpose=True),
  6: Turn(transpose=True, hflip=True),
  7: Turn(transpose=True, hflip=True, vflip=True),
  8: Turn(transpose=True, vflip=True),
}
_NUMBER = re.compile(r'(\d+)(\D*)')  # the last number in a name, and what follows it


def parse_rate(text: str) -> float:
  """Pictures a second of a number or a fraction, such as 30000/1001.

  Raises:
    ValueError: it is none above 0.
  """
  try:
    rate = float(fractions.Fraction(text))
  except (ValueError, ZeroDivisionError, OverflowError):
    rate = 0.0
  if not rate > 0:
    raise ValueError(f'{text!r} is no rate; wanted pictures a second, such as 30 or 30000/1001')
  return rate


# As a config or a command line gives it.
Rate = Positive | Annotated[str, Parse(parse_rate)]


@dataclasses.dataclass(frozen=True)
class FrameFolder:
  """A video as a folder of numbered pictures, shown at a rate that nothing in it states.

  Attributes:
    path: the folder.
    fps: pictures a second.
  """

  path: str
  fps: float


def read_clip(
  folder: FrameFolder,
  choose: Callable[[VideoInfo], Cut],
  *,
  name: str = '',
  max_pixels: int = MAX_PIXELS,
) -> tuple[np.ndarray, Cut]:
  """Reads one cut; arguments, result and errors are those of `reader.read_clip`."""
  frames = Frames(folder, name, max_pixels)
  cut = choose(frames.info())
  shown = timeline.count_evenly(len(frames), folder.fps)
  clip = np.empty((len(cut.times_secs), *cut.size, 3), np.uint8)
  painter = Painter(cut, frames.size, frames.fail)
  for index, (first, *others) in sorted(shown.find_places(cut.times_secs).items()):
    painter.paint(frames.decode(index), out=clip[first])
    clip[others] = clip[first]
  return clip, cut


def probe(folder: FrameFolder, *, name: str = '') -> VideoInfo:
  """Counts the pictures and decodes the first."""
  return Frames(folder, name).info()


def count_frames(
  folder: FrameFolder, *, name: str = '', on_frame: Callable[[], None] | None = None
) -> int:
  """Decodes all pictures and returns how many there are.

  Args:
    on_frame: called after each of them.

  Raises:
    DecodeError: whatever could make any clip of this folder fail.
  """
  frames = Frames(folder, name)
  for index in range(len(frames)):
    frames.decode(index)
    if on_frame:
      on_frame()
  return len(frames)


def sum_bytes(folder: FrameFolder) -> int:
  """The sizes of all pictures, added up.

  Raises:
    OSError: the folder cannot be read.
  """
  return sum(os.stat(path).st_size for path in list_pictures(folder.path))


def list_pictures(path: str) -> list[str]:
  """Paths of the pictures in a folder, in any order."""
  with os.scandir(path) as entries:
    return [entry.path for entry in entries if is_picture(entry.name)]


def is_picture(name: str) -> bool:
  stem, dot, suffix = name.rpartition('.')  # os.path.splitext takes four times as long
  return stem != '' and name[0] != '.' and dot + suffix.lower() in PICTURE_SUFFIXES


class Frames:
  """The pictures of one folder, by their place from 0.

  What `live` asks of a Track can be asked of this too.

  Attributes:
    timeless: False: a rate says when pictures are shown.
    codec: what decoded the first picture.
    size: (width, height) of all pictures as shown.

  Raises:
    DecodeError: there are none, or their numbers do not make a sequence.
  """

  timeless = False

  def __init__(self, folder: FrameFolder, name: str = '', max_pixels: int = MAX_PIXELS):
    self.folder, self.name, self._max_pixels = folder, name or folder.path, max_pixels
    try:
      paths = list_pictures(folder.path)
    except OSError as error:
      raise DecodeError(self.name, f'cannot be opened: {say_error(error)}') from error
    self._paths = self._sort(paths)
    self.codec, first = self._decode(0)
    self.size = shown_size(first)

  def __len__(self) -> int:
    return len(self._paths)

  @property
  def fps(self) -> float:
    return self.folder.fps

  def fail(self, reason: str):
    raise DecodeError(self.name, reason)

  def stated_secs(self) -> float:
    return len(self) / self.fps

  def info(self) -> VideoInfo:
    return VideoInfo(self.stated_secs(), self.fps, *self.size, self.codec.name, len(self))

  def check_pixels(self, max_pixels: int):
    """Does nothing: `decode` refuses pictures that are too large."""

  def decode(self, index: int) -> av.VideoFrame:
    """Decodes a picture; fails if it has not the size of the first."""
    _, frame = self._decode(index)
    size = shown_size(frame)
    if size != self.size:
      found, wanted = (f'{width}x{height}' for width, height in (size, self.size))
      self._fail_at(index, f'is {found}, and {self._call(0)} is {wanted}')
    return frame

  def decode_live(self) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds since the first frame, frame) of all pictures."""
    unit = 1 / fractions.Fraction(self.fps).limit_denominator(1_000_000)
    for index in range(len(self)):
      frame = self.decode(index)
      frame.pts, frame.duration, frame.time_base = index, 1, unit
      yield index / self.fps, frame

  def _decode(self, index: int) -> tuple[av.CodecContext, av.VideoFrame]:
    """The decoder of a picture, and the picture."""
    try:
      if not os.path.isfile(self._paths[index]):  # opening a named pipe waits for ever
        self._fail_at(index, 'is not a regular file')
      with open(self._paths[index], 'rb') as file:
        content = file.read()
    except OSError as error:
      self._fail_at(index, f'cannot be read: {say_error(error)}', error)
    kind = next((codec for start, codec in _CODECS.items() if content.startswith(start)), None)
    if kind is None:
      self._fail_at(index, 'is empty' if not content else 'is no JPEG, PNG, WebP or BMP picture')
    # A codec of its own for each: that of PNG adds a second picture to the first.
    codec = _make_codec(kind, self._max_pixels)
    try:
      (frame,) = codec.decode(av.Packet(content))
    except av.error.ArgumentError as error:
      self._fail_at(index, f'is damaged or has more than {self._max_pixels:,} pixels', error)
    except (av.error.FFmpegError, ValueError) as error:  # or not one picture
      self._fail_at(index, f'cannot be decoded: {say_error(error)}', error)
    if frame.is_corrupt:
      self._fail_at(index, 'is damaged')
    frame.opaque = _find_turn(content)
    return codec, frame

  def _call(self, index: int) -> str:
    return spell(os.path.basename(self._paths[index]))

  def _fail_at(self, index: int, reason: str, cause: Exception | None = None):
    raise DecodeError(self.name, f'{self._call(index)} {reason}') from cause

  def _sort(self, paths: list[str]) -> list[str]:
    """Sorts pictures by the numbers in their names, of which none may be missing."""
    if not paths:
      kinds = ' '.join(sorted(suffix[1:] for suffix in PICTURE_SUFFIXES))
      self.fail(f'holds no pictures ({kinds})')
    series = collections.defaultdict(dict)
    for path in sorted(paths):
      stem = path[path.rfind(os.sep) + 1 : path.rfind('.')]
      if not (found := list(_NUMBER.finditer(stem))):
        self.fail(f'the name of {spell(os.path.basename(path))} has no number')
      last = found[-1]
      numbered = series[stem[: last.start()], last[2]]
      before = numbered.setdefault(int(last[1]), path)
      if before != path:
        names = ' and '.join(spell(os.path.basename(one)) for one in (before, path))
        self.fail(f'{names} have the same number')
    if len(series) > 1:
      counts = ', '.join(f'{spell(a)}…{spell(b)} {len(some)}' for (a, b), some in series.items())
      self.fail(f'holds {len(series)} series of pictures, wanted one: {counts}')
    return self._check_gaps(next(iter(series.values())))

  def _check_gaps(self, numbered: dict[int, str]) -> list[str]:
    first, last = min(numbered), max(numbered)
    if missing := last - first + 1 - len(numbered):
      gap = next(number for number in range(first, last) if number not in numbered)
      more = f', and {missing - 1} more' if missing > 1 else ''
      self.fail(f'frame {gap} of {first}..{last} is missing{more}')
    return [numbered[number] for number in sorted(numbered)]


def _find_turn(content: bytes) -> Turn | None:
  """How a picture is shown by its EXIF; None if it has none that can be read.

  PyAV 18 does not hand EXIF on, and FFmpeg's angle has no mirrors.
  """
  if not any(mark in content for mark in _EXIF_MARKS):
    return None
  try:
    with Image.open(io.BytesIO(content)) as picture:
      turn = _TURNS.get(picture.getexif().get(_ORIENTATION), Turn())
  except Exception:  # of many kinds, where EXIF is damaged: FFmpeg has shown the picture
    return None
  # Of its own for each frame: PyAV forgets an object when the first frame that has it is gone.
  return Turn(*turn)


def _make_codec(kind: str, max_pixels: int) -> av.CodecContext:
  codec = av.CodecContext.create(kind, 'r')
  codec.thread_count = 1
  # By default FFmpeg shows half a picture without a word.
  codec.options = {'err_detect': 'explode', 'max_pixels': str(max_pixels)}
  return codec
