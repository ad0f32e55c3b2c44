"""The packets of a video stream: their stamps, and each packet again where it is wanted.

A file is read through once for the stamps. The packets of a small file stay in memory. Those of a
large file are read again by seeking, so memory does not grow with the file.
"""

import array
import itertools
from collections.abc import Callable, Iterator, Sequence

import av
import av.error
import numpy as np

# Packets up to this many bytes stay in memory: ten seconds of video are about 1 MB.
KEPT_BYTES = 32 << 20
# Stands for a missing stamp, as AV_NOPTS_VALUE does in FFmpeg.
NONE = -(1 << 63)
# Seeking may land too late where a file's index is coarse, so the next try begins earlier.
_EARLIER_SECS = (0.0, 2.0, 20.0)
# A packet that is shown so much later than the wanted one is behind it, in every order.
_LATE_SECS = 10.0
# So many packets are read through faster than another place is found.
_NEAR_PACKETS = 50


class Packets:
  """The packets of one video stream, in the order of the file.

  Attributes:
    columns: all that is noted of the packets, an array a kind.
    pts, dts: int64 [packets], stamps in units of the stream's time base; NONE if missing.
    durations: int64 [packets], how long each is shown; 0 if the file does not say.
    is_key: bool [packets].
    is_hidden: bool [packets]. The decoder needs hidden packets, and they are not shown.
  """

  def __init__(self, container, stream, reopen: Callable | None):
    """`reopen` opens the file again at its start, as a container; None for a live source."""
    self._container, self._stream, self._reopen = container, stream, reopen
    self._kept: list[av.Packet] | None = []
    self._bytes = 0
    self.columns = tuple(array.array(kind) for kind in 'qqqqbb')
    self._adders = [column.append for column in self.columns]
    self._spans = {}  # by stream, in units of its time base

  def __len__(self) -> int:
    return len(self.columns[0])

  def scan(self) -> Iterator[av.Packet]:
    """Reads the file once, and yields each packet once its stamps are noted."""
    for packet in self.demux():
      self._note(packet)
      yield packet
    self._take([np.frombuffer(column, column.typecode) for column in self.columns])

  def adopt(self, columns: Sequence[np.ndarray]):
    """Takes over what a scan of the same file has found; its packets were not kept."""
    self._kept = None
    self._take(columns)

  def _take(self, columns: Sequence[np.ndarray]):
    self.columns = tuple(columns)
    self.pts, self.dts, self._place, self.durations, key, hidden = columns
    self.is_key, self.is_hidden = key.astype(bool), hidden.astype(bool)

  @property
  def is_kept(self) -> bool:
    """Whether the packets stay in memory."""
    return self._kept is not None

  def demux(self) -> Iterator[av.Packet]:
    """Reads on in the file, and keeps nothing but where its streams end."""
    for packet in _read_packets(self._container):
      self._note_span(packet)
      if packet.stream_index == self._stream.index:
        yield packet

  def _note(self, packet: av.Packet):
    row = (*_identify(packet), packet.duration or 0, packet.is_keyframe, packet.is_discard)
    for add, value in zip(self._adders, row, strict=True):
      add(value)
    if self._kept is not None:
      self._bytes += packet.size
      self._kept.append(packet)
      if self._bytes > KEPT_BYTES:
        self._kept = None

  def _note_span(self, packet: av.Packet):
    stamp = packet.pts
    if stamp is None and (stamp := packet.dts) is None:
      return
    end, span = stamp + (packet.duration or 0), self._spans.get(packet.stream_index)
    if span is None:
      # Asked once: PyAV makes a fraction of it for each packet.
      if packet.time_base is not None:
        self._spans[packet.stream_index] = [stamp, end, packet.time_base]
      return
    if stamp < span[0]:
      span[0] = stamp
    if end > span[1]:
      span[1] = end

  @property
  def span_secs(self) -> tuple[float, float]:
    """From when to when any stream of the file has packets, on the clock of the file."""
    starts = [float(start * base) for start, _, base in self._spans.values()]
    ends = [float(end * base) for _, end, base in self._spans.values()]
    return min(starts, default=0.0), max(ends, default=0.0)

  def read(self, position: int = 0) -> Iterator[av.Packet]:
    """Yields the packets from a position on once more, after `scan`."""
    if self._kept is not None:
      return iter(self._kept[position:])
    return self._seek(position) or self._walk(position)

  def skip(self, reading: Iterator[av.Packet], packets: int, position: int) -> Iterator[av.Packet]:
    """Leaves out so many packets of an iterator of `read`, up to a position, or seeks it."""
    if self._kept is None and packets <= _NEAR_PACKETS:
      return itertools.islice(reading, packets, None)
    return self.read(position)

  def _seek(self, position: int) -> Iterator[av.Packet] | None:
    """The packets from a position on; None if seeking does not lead there."""
    stamps = [stamp for stamp in (self.pts[position], self.dts[position]) if stamp != NONE]
    if not position or not stamps or not self._tells_apart(position):
      return None
    for secs in _EARLIER_SECS:
      target = int(min(stamps)) - round(secs / self._stream.time_base)
      try:
        self._container.seek(target, stream=self._stream)
        if found := self._drop_until(position, self._demux_again(self._container)):
          return found
      except (av.error.FFmpegError, OSError):
        return None
    return None

  def _tells_apart(self, position: int) -> bool:
    """Whether the packet of this position can be told from all others after a jump."""
    # A program stream gives few places, and a raw one invents its stamps anew.
    return bool(self._place[position] >= 0 or (self._place >= 0).sum() > 1)

  def _drop_until(self, position: int, packets) -> Iterator[av.Packet] | None:
    """The packets from a position on; None if the first packet is a later one."""
    wanted = self.pts[position], self._place[position]
    late = wanted[0] + round(_LATE_SECS / self._stream.time_base)
    for packet in packets:
      pts, _, place = _identify(packet)
      # A decoding stamp may be missing after a jump where it was there before.
      if (pts, place) == wanted:
        return itertools.chain([packet], packets)
      if place > wanted[1] >= 0 or pts > late:
        return None
    return None

  def _walk(self, position: int) -> Iterator[av.Packet]:
    """The packets from a position on, found by reading the file from its start."""
    return itertools.islice(self._demux_again(self._reopen()), position, None)

  def _demux_again(self, container) -> Iterator[av.Packet]:
    return _read_packets(container, container.streams[self._stream.index])


def _read_packets(container, *streams) -> Iterator[av.Packet]:
  """Yields the packets of a container from where it stands; by default of all its streams."""
  packets = container.demux(*streams)
  while True:
    try:
      packet = next(packets)
    except StopIteration:
      return
    except IndexError:  # PyAV at the end of a file in which streams appeared on the way
      return
    if packet.size:
      yield packet


def _identify(packet: av.Packet) -> tuple[int, int, int]:
  """(pts, dts, place in the file) of a packet."""
  pts, dts, place = packet.pts, packet.dts, packet.pos
  return (
    NONE if pts is None else pts,
    NONE if dts is None else dts,
    -1 if place is None else place,
  )
