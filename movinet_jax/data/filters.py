"""FFmpeg filter graphs: frames are turned upright, cropped, scaled and converted to RGB."""

import struct
from collections.abc import Callable
from typing import NamedTuple

import av
import av.error
import av.filter
import numpy as np

from movinet_jax.data.video import Cut, say_error

# FFmpeg's AVColorSpace, under the names that its scale filter knows.
_MATRICES = {1: 'bt709', 4: 'fcc', 5: 'bt601', 6: 'bt601', 7: 'smpte240m'}
_MATRICES |= {9: 'bt2020', 10: 'bt2020'}
_FULL_RANGE = 2
# Entries of a display matrix may be off by this much: one degree is 0.017.
_MATRIX_SLACK = 0.02


def fit_frame(frame: np.ndarray, cut: Cut) -> np.ndarray:
  """Crops and scales one uint8 `[H, W, 3]` RGB picture as a cut says."""
  picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')
  seen = (picture.width, picture.height)
  return Painter(cut, seen, _raise_value_error).paint(picture)


class Painter:
  """Crops, scales and converts frames to RGB through one FFmpeg filter graph.

  Args of the constructor: the cut, the (width, height) of the picture in whose pixels its
  box is given, and what to call with the reason if FFmpeg fails.
  """

  def __init__(self, cut: Cut, seen: tuple[int, int], fail: Callable[[str], None]):
    self.cut, self.seen, self.fail = cut, seen, fail
    self.graph, self.kind = None, None

  def paint(self, frame: av.VideoFrame, out: np.ndarray | None = None) -> np.ndarray:
    kind = (frame.width, frame.height, frame.format.name, find_turn(frame))
    kind = (*kind, int(frame.colorspace), int(frame.color_range))
    if kind != self.kind:  # the first frame, or a stream that changes on the way
      self.graph, self.kind = _make_graph(frame, self.cut, self.seen), kind
    try:
      self.graph.vpush(frame)
      plane = self.graph.vpull().planes[0]
    except av.error.FFmpegError as error:
      self.fail(f'cannot be cropped or scaled: {say_error(error)}')
    height, width = self.cut.size
    rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
    picture = rows[:, : 3 * width].reshape(height, width, 3)
    out = np.empty((height, width, 3), np.uint8) if out is None else out
    out[:] = picture
    return out


def _make_graph(frame: av.VideoFrame, cut: Cut, seen: tuple[int, int]):
  """The filters for frames like this one; the box is in pixels of `seen` (W, H)."""
  left, top, wide, high = _whole_pixels(cut.box, seen, shown_size(frame))
  scale = {
    # Filters over the whole shrunken area, where fast_bilinear skips pixels; the others
    # make the result the same on every processor, and interpolate the colours too.
    'flags': 'bilinear+accurate_rnd+bitexact+full_chroma_int',
    'w': str(cut.size[1]),
    'h': str(cut.size[0]),
    'out_range': 'full',
  }
  return make_graph(
    frame,
    ('crop', f'{wide}:{high}:{left}:{top}:exact=1'),
    ('scale', scale),
    ('format', 'rgb24'),
    *([('hflip', '')] if cut.flip else []),  # numpy takes ten times longer
  )


def make_graph(frame: av.VideoFrame, *filters: tuple[str, str | dict]):
  """A graph that turns frames like this one upright and filters them.

  Args:
    frame: the graph is made for frames of its size, format and colours.
    *filters: (name, arguments as one text or by name). A `scale` whose arguments are given
      by name gets the frame's matrix and range too.
  """
  graph = av.filter.Graph()
  graph.threads = 1
  nodes = [
    graph.add_buffer(
      width=frame.width,
      height=frame.height,
      format=frame.format,
      time_base=frame.time_base or 1,
    )
  ]
  for name, args in (*_make_turns(find_turn(frame)), *filters):
    if isinstance(args, dict):
      colours = _name_colours(frame) if name == 'scale' else {}
      nodes.append(graph.add(name, **args, **colours))
    else:
      nodes.append(graph.add(name, args))
  graph.link_nodes(*nodes, graph.add('buffersink')).configure()
  return graph


def _name_colours(frame: av.VideoFrame) -> dict[str, str]:
  """The frame's YUV matrix and range: without them a scale filter assumes BT.601."""
  if frame.format.is_rgb:
    return {}
  full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith('yuvj')
  matrix = _MATRICES.get(int(frame.colorspace), usual_matrix(frame.height))
  return {'in_color_matrix': matrix, 'in_range': 'full' if full else 'tv'}


def usual_matrix(height: int) -> str:
  """The YUV matrix of a picture that names none, by its height."""
  return 'bt709' if height >= 720 else 'bt601'


class Turn(NamedTuple):
  """How a stored picture is shown: rows and columns are exchanged, then it is mirrored."""

  transpose: bool = False
  hflip: bool = False
  vflip: bool = False


# By degrees counter-clockwise.
_TURNS = {90: Turn(True, False, True), 180: Turn(False, True, True), 270: Turn(True, True, False)}


def find_turn(frame: av.VideoFrame) -> Turn:
  """Reads how the display matrix of a frame turns and mirrors it, as players do.

  The matrix is that of the MP4 header, which phones write. One that is not made of quarter turns
  and mirrors, such as 45 degrees, is passed over: the picture is shown as it is stored.
  """
  if isinstance(frame.opaque, Turn):  # whoever decoded the frame knows more than FFmpeg does
    return frame.opaque
  try:
    matrix = frame.side_data.get('DISPLAYMATRIX')
  except ValueError:  # PyAV 18 does not know EXIF, which JPEG has beside the matrix
    return _TURNS.get(frame.rotation % 360, Turn())
  if matrix is None:
    return Turn()
  # Stored (x, y) is shown at (a x + c y, b x + d y).
  a, b, _, c, d, *_ = struct.unpack('=9i', bytes(matrix))
  scale = max(map(abs, (a, b, c, d)))
  near = [abs(n) >= (1 - _MATRIX_SLACK) * scale for n in (a, b, c, d)]
  none = [abs(n) <= _MATRIX_SLACK * scale for n in (a, b, c, d)]
  if near[0] and near[3] and none[1] and none[2]:
    return Turn(False, a < 0, d < 0)
  if near[1] and near[2] and none[0] and none[3]:
    return Turn(True, c < 0, b < 0)
  return Turn()


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
  """(width, height) of a frame as shown."""
  turned = find_turn(frame).transpose
  return (frame.height, frame.width) if turned else (frame.width, frame.height)


def _make_turns(turn: Turn) -> list[tuple[str, str]]:
  """Filters that show a frame upright."""
  turns = [('transpose', 'cclock_flip')] if turn.transpose else []  # FFmpeg's name of transposing
  turns += [('hflip', '')] if turn.hflip else []
  # vflip alone gives lines from below, which a reader of the memory would not expect.
  return turns + ([('vflip', ''), ('copy', '')] if turn.vflip else [])


def _whole_pixels(box, seen: tuple[int, int], size: tuple[int, int]):
  """Rounds a box to pixels inside a picture of `size`, at least one pixel large."""
  scale = (size[0] / seen[0], size[1] / seen[1])
  edges = []
  for axis in (0, 1):
    start = min(max(round(box[axis] * scale[axis]), 0), size[axis] - 1)
    stop = round((box[axis] + box[axis + 2]) * scale[axis])
    edges.append((start, min(max(stop, start + 1), size[axis]) - start))
  return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _raise_value_error(reason: str):
  raise ValueError(reason)
