"""Cut a video out of another and re-encode it for fast random access.

A short side of 256 is enough for clips of up to 224 pixels; larger networks want more. A key
frame every 12 frames makes short clips from the middle of a file several times cheaper to read,
for a tenth more bytes.
"""

import contextlib
import os
from collections.abc import Callable
from fractions import Fraction

import av
import av.error
import av.filter

from movinet_jax.data import filters
from movinet_jax.data.track import MAX_PIXELS, Track, open_track
from movinet_jax.data.video import DecodeError, say_error

SHORT_SIDE = 256
GOP_FRAMES = 12


def write_cut(
  video: str,
  path: str,
  *,
  start_secs: float = 0.0,
  stop_secs: float | None = None,
  short_side: int | None = SHORT_SIDE,
  on_frame: Callable[[], None] = lambda: None,
) -> int:
  """Re-encodes a part of a video as H.264 in MP4, upright, 8 bit, limited range.

  Frames and their times are kept as they are. The file appears when it is complete.

  Args:
    video: path of the source.
    path: of the file to write.
    start_secs, stop_secs: the part, in seconds since the first frame; None: to the end.
    short_side: shrink to this many pixels; smaller videos and None keep their size.
    on_frame: called with each frame of the source, so that somebody may see that it goes on.

  Returns:
    Number of frames.

  Raises:
    DecodeError: the source is damaged, or has no frame between start and stop.
  """
  part = f'{path}.part'
  with open_track(video) as track:
    track.check_pixels(MAX_PIXELS)
    # Demuxed one by one: a film of hours must not lie in memory for ten seconds of it.
    frames, last = _cut_frames(track, start_secs, stop_secs, on_frame)
    try:
      count = _write(part, frames, track, short_side)
    except BaseException:
      _remove(part)
      raise
  if not count:
    _remove(part)
    stop = 'the end' if stop_secs is None else f'{stop_secs:g} s'
    raise DecodeError(
      video, f'has no frame from {start_secs:g} s to {stop}; it ends at {last[0]:.2f} s'
    )
  os.replace(part, path)
  return count


def _remove(path: str):
  with contextlib.suppress(FileNotFoundError):  # FFmpeg makes it with the first frame
    os.remove(path)


def _cut_frames(track: Track, start_secs: float, stop_secs: float | None, on_frame: Callable):
  """An iterator of (seconds, frame), and where it notes the last time seen."""
  last = [0.0]

  def frames():
    for at_secs, frame in track.decode_live():
      last[0] = at_secs
      on_frame()
      if stop_secs is not None and at_secs >= stop_secs - 1e-6:
        return
      if frame.is_corrupt:
        track.fail(f'the frame at {at_secs:.2f} s is damaged')
      if at_secs >= start_secs - 1e-6:
        yield at_secs, frame

  return frames(), last


def _write(path: str, frames, track: Track, short_side: int | None) -> int:
  count, graph = 0, None
  base = track.stream.time_base or Fraction(1, 90_000)
  with av.open(path, 'w', format='mp4', options={'movflags': '+faststart'}) as output:
    for at_secs, frame in frames:
      if graph is None:
        width, height = _even_size(frame, short_side)
        graph = _make_graph(frame, width, height)
        stream = _add_stream(output, track, base, width, height)
        origin_secs = at_secs
      try:
        graph.vpush(frame)
        picture = graph.vpull()
      except av.error.FFmpegError as error:
        track.fail(f'cannot be scaled: {say_error(error)}')
      picture.pts, picture.time_base = round((at_secs - origin_secs) / base), base
      picture.pict_type = 0  # else the encoder repeats the source's key frames
      output.mux(stream.encode(picture))
      count += 1
    if count:
      output.mux(stream.encode(None))
  return count


def _add_stream(output, track: Track, base: Fraction, width: int, height: int):
  options = {'crf': '20', 'preset': 'fast', 'g': str(GOP_FRAMES), 'threads': '1'}
  rate = track.stream.average_rate or track.stream.guessed_rate or 25
  stream = output.add_stream('libx264', rate=rate, options=options)
  stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
  stream.codec_context.time_base = base
  return stream


def _even_size(frame: av.VideoFrame, short_side: int | None) -> tuple[int, int]:
  """(width, height), both even as 4:2:0 wants them."""
  width, height = filters.shown_size(frame)
  scale = min(1.0, (short_side or min(width, height)) / min(width, height))
  return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _make_graph(frame: av.VideoFrame, width: int, height: int):
  # Written without tags, so in the matrix that an untagged file of this height means.
  scale = {'w': str(width), 'h': str(height), 'flags': 'bicubic+accurate_rnd'}
  scale |= {'out_color_matrix': filters.usual_matrix(height), 'out_range': 'tv'}
  return filters.make_graph(frame, ('scale', scale), ('format', 'yuv420p'))
