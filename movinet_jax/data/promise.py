"""What a file states to hold. One that was cut short holds less, and FFmpeg says nothing of it."""

import os
from collections.abc import Callable
from typing import BinaryIO

import av

# Containers round lengths, and that of the last frame is often left out of them.
LEAST_SHARE = 0.9
# The header of these states how long the video is. Of other formats FFmpeg guesses a length,
# from the last stamps in the file or from its size, and a guess proves nothing.
_STATING = frozenset(['mov', 'matroska', 'flv', 'asf', 'nut'])
# These state where the video ends on its own clock, which need not begin at 0.
_STATING_END = frozenset(['matroska', 'flv', 'asf', 'nut'])
# Packets are listed about in the order of the file. Those at its end are among the last.
_LAST_ENTRIES = 64


class Promise:
  """What one open file states of its video stream."""

  def __init__(self, container, stream, missing_bytes: int | None = None):
    """`missing_bytes` is what `count_missing` has found."""
    self._container, self._stream, self._missing_bytes = container, stream, missing_bytes
    self._formats = frozenset(container.format.name.split(','))

  def find_secs(self, first_secs: float = 0.0) -> float | None:
    """The length of the video; None if the file states none.

    Args:
      first_secs: when the first frame is shown, on the clock of the file.
    """
    stated = self._find_stated_secs()
    return stated and self._measure_from(first_secs, stated)

  def find_lack(
    self, shown_secs: float, first_secs: float, frame_secs: float, span_secs: tuple[float, float]
  ) -> str:
    """What the file states and does not hold, in words; '' if it holds all.

    Args:
      shown_secs: how long its frames are shown.
      first_secs: when the first one is, on the clock of the file.
      frame_secs: how long a usual frame is shown.
      span_secs: from when to when the file has packets of any stream, on its clock.
    """
    missing_bytes = self._count_missing_bytes()
    # Bytes are exact, where a length is not: an edit list may show less than there is, and AVI
    # counts empty chunks.
    if missing_bytes == 0:
      return ''
    stated = self._find_stated_secs()
    if stated is None and self._formats & _STATING_END and (stated := self._find_all_secs()):
      # Tags at the end of a file are lost with it. Its streams together say how long it is.
      first_secs, shown_secs = span_secs[0], max(shown_secs, span_secs[1] - span_secs[0])
    if stated and self._lacks(stated, first_secs, shown_secs, frame_secs):
      return f'states {stated:.2f} s but holds {shown_secs:.2f} s'
    return f'states {missing_bytes:,} bytes more than it has' if missing_bytes else ''

  def _lacks(self, stated: float, first_secs: float, shown_secs: float, frame_secs: float) -> bool:
    if 'flv' in self._formats:
      # Some programs state the length, and others where it ends.
      if abs(first_secs + shown_secs - stated) <= 2 * frame_secs + 0.1:
        return False
      return shown_secs < LEAST_SHARE * stated - frame_secs
    return shown_secs < LEAST_SHARE * self._measure_from(first_secs, stated) - frame_secs

  def _find_stated_secs(self) -> float | None:
    """The length as it is stated, from wherever it counts."""
    if not self._formats & _STATING:
      return None
    if self._stream.duration and self._stream.time_base:
      return float(self._stream.duration * self._stream.time_base)
    if stated := _parse_clock(self._stream.metadata.get('DURATION', '')):
      return stated
    # The container's length is that of its longest stream, which may be the sound.
    return self._find_all_secs() if len(self._container.streams) == 1 else None

  def _find_all_secs(self) -> float | None:
    """The length of all streams together."""
    duration = self._container.duration
    return duration / av.time_base if duration else None

  def _measure_from(self, first_secs: float, stated: float) -> float:
    """A stated length, without the time before the first frame where it counts that, too."""
    counts_all = self._formats & _STATING_END or self._is_in_pieces
    return stated - first_secs if counts_all and stated > first_secs > 0 else stated

  @property
  def _is_in_pieces(self) -> bool:
    """Whether an MP4 file lists its packets piece by piece, as those of DASH and HLS do."""
    return 'mov' in self._formats and self._stream.frames == 0

  def _count_missing_bytes(self) -> int | None:
    """Bytes that the file promises behind its end; None if it promises none.

    An MP4 file lists the packets of its video: whether they are all there is what counts.
    """
    entries = self._stream.index_entries if 'mov' in self._formats else ()
    last = [entries[i] for i in range(max(0, len(entries) - _LAST_ENTRIES), len(entries))]
    if self._is_in_pieces or not last or self._container.size <= 0:
      return self._missing_bytes
    return max(0, max(entry.pos + entry.size for entry in last) - self._container.size)


def count_missing(file: BinaryIO) -> int | None:
  """Counts the bytes that a file promises behind its end, by the sizes of its outermost parts.

  None if it promises nothing: it was never closed, is a stream, or of a format without sizes.
  """
  size = file.seek(0, os.SEEK_END)
  file.seek(0)
  head = file.read(_HEAD_BYTES)
  for begins, find_end in _ENDS.items():
    if head[4:8] == begins if begins in _BOXES else head.startswith(begins):
      end = find_end(file, head, size)
      return None if end is None else max(0, end - size)
  return None


_HEAD_BYTES = 65536


def _end_riff(file: BinaryIO, head: bytes, size: int) -> int | None:
  """AVI: RIFF chunks one behind another."""
  place = 0
  while place < size:
    file.seek(place)
    head = file.read(8)
    if head[:4] != b'RIFF':  # what somebody has put behind the video
      return place
    length = int.from_bytes(head[4:], 'little')
    if not length:
      return None
    place += 8 + length
  return place


def _end_boxes(file: BinaryIO, head: bytes, size: int) -> int | None:
  """MP4 and MOV: boxes one behind another."""
  place = 0
  while place < size:
    file.seek(place)
    head = file.read(16)
    length, kind = int.from_bytes(head[:4], 'big'), head[4:8]
    if length == 1:
      length = int.from_bytes(head[8:16], 'big')
    if length == 0 or (len(head) == 16 and not kind.isalnum()):
      return None  # to the end of the file; or something else follows
    if length < 8:
      return None
    place += length
  return place


def _end_segment(file: BinaryIO, head: bytes, size: int) -> int | None:
  """Matroska and WebM: the EBML header and one segment."""
  length, place = _read_size(head, 4)
  if length is None or not head.startswith(b'\x18\x53\x80\x67', place + length):
    return None
  begin = place + length + 4
  length, place = _read_size(head, begin)
  return None if length is None else place + length


def _read_size(head: bytes, place: int) -> tuple[int | None, int]:
  """A size of EBML and the place behind it; None if it is unknown."""
  first = head[place] if place < len(head) else 0
  count = 9 - first.bit_length()
  if not first or place + count > len(head):
    return None, place
  value = int.from_bytes(head[place : place + count], 'big') & ((1 << 7 * count) - 1)
  return (None if value == (1 << 7 * count) - 1 else value), place + count


def _end_asf(file: BinaryIO, head: bytes, size: int) -> int | None:
  """ASF and WMV: the file's size is in the object File Properties."""
  place = head.find(_FILE_PROPERTIES)
  length = int.from_bytes(head[place + 40 : place + 48], 'little') if place > 0 else 0
  return length or None


def _end_packets(file: BinaryIO, head: bytes, size: int) -> int | None:
  """Transport streams: packets of 188 bytes, or of 192 or 204 with something beside each."""
  for length in (188, 192, 204):
    for place in range(min(length, len(head))):
      if len(marks := head[place::length]) > 4 and marks == b'\x47' * len(marks):
        return size + -(size - place + (4 if length == 192 else 0)) % length
  return None


_FILE_PROPERTIES = bytes.fromhex('a1dcab8c47a9cf118ee400c00c205365')
_ASF = bytes.fromhex('3026b2758e66cf11a6d900aa0062ce6c')
_BOXES = (b'ftyp', b'styp', b'moov', b'mdat', b'wide', b'free', b'skip', b'sidx', b'moof')
# By what a file begins with. Anything else may be a transport stream, from any byte on.
_ENDS: dict[bytes, Callable] = {
  b'RIFF': _end_riff,
  b'\x1a\x45\xdf\xa3': _end_segment,
  _ASF: _end_asf,
  **dict.fromkeys(_BOXES, _end_boxes),
  b'': _end_packets,
}


def _parse_clock(text: str) -> float | None:
  """Seconds of Matroska's '00:00:05.000000000', None if it is none."""
  hours, minutes, seconds = ([*text.split(':'), '', ''])[:3]
  try:
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
  except ValueError:
    return None
