"""Run a trained network live on a video, a camera or an address, frame by frame.

  movinet stream --checkpoint=runs/mine --source=clip.mp4
  movinet stream --checkpoint=ckpt-1 --network=movinet/a0-stream --source=clip.mp4
  movinet stream --checkpoint=runs/mine --source=0 --top=5          (camera 0)
  movinet stream --checkpoint=runs/mine --source=rtsp://user:password@camera/live
  ffmpeg … -f matroska - | movinet stream --checkpoint=runs/mine --source=-
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --json    (a line a call)
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --save=out.mp4

Frames are taken at the rate that the network was trained at (--fps to change it), the same ones
that an evaluation takes. The state is carried from frame to frame: memory does not depend on how
long the source is.

--memory says what an answer is of: `exact`, all frames so far, the default for files;
`window:SECS`, the last SECS / 2 to SECS seconds, the default for live sources; or
`forget:HALF_LIFE`, less and less. --reset-on-cut forgets at each cut of a film, and SIGUSR1 at any
time. docs/streaming.md compares them.

Ctrl-C ends a stream as its last frame does: what --save has written is kept.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from launch import devices
from launch.arguments import add_trained, at_least_1, make_parser, positive
from launch.errors import ExitCode
from launch.runs.trained import load_given
from movinet_jax import data, serve, signals
from movinet_jax.data.address import File, Folder, LiveSource, parse_source
from movinet_jax.data.live import RECONNECT_SECS, Feed, Painting, open_feed
from movinet_jax.data.ticks import hold_frames
from movinet_jax.paths import find_local


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  devices.check_platform()
  source, chunk = _find_pictures(arguments.source, arguments.source_fps), arguments.chunk
  with contextlib.ExitStack() as stack:
    asked = stack.enter_context(_listening_for_resets())
    # Before the network is loaded: a place that cannot be written to, or a source that is not
    # there, fails at once.
    recorder = stack.enter_context(_open_recorder(arguments.save))
    feed = open_feed(source, reconnect_secs=arguments.reconnect_secs, say=_tell)
    feed = stack.enter_context(feed)
    trained = load_given(arguments)
    fps = arguments.fps or find_fps(trained.clip, feed)
    live = serve.Live(
      trained.model,
      trained.complete(),
      (trained.clip.size, trained.clip.size),
      chunk,
      multi_label=trained.multi_label,
      memory=choose_memory(arguments.memory, source, trained.clip, fps),
    )
    show = _print_json if arguments.json else _print_line
    stack.callback(_tell_damage, feed)
    steps = predict(
      live,
      feed,
      trained.clip,
      fps,
      chunk,
      pictures=recorder is not None,
      cuts=arguments.reset_on_cut,
      asked=asked,
    )
    began = time.perf_counter()
    for step in until_stopped(steps, feed.stop):
      top = step.prediction.top(arguments.top, trained.labels)
      show(step, top)
      for seconds, picture in zip(step.times_secs, step.pictures, strict=False):
        recorder.write(picture, [f'{label}  {p:.0%}' for label, p in top], seconds)
    secs = time.perf_counter() - began
    if not live.frames and feed.stopped:
      return ExitCode.INTERRUPTED
  if not live.frames:
    raise ValueError(f'{source.name} is shorter than one chunk of frames')
  _print_summary(live, feed, secs, arguments.json)
  return ExitCode.DONE


def _tell(line: str):
  print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _open_recorder(path: str | None):
  """A recorder that says where the recording is, also before an error is reported."""
  if not path:
    yield None
    return
  recorder = serve.Recorder(path)
  try:
    with recorder:
      yield recorder
  finally:
    if os.path.exists(path):
      _tell(f'saved {path}')


def until_stopped(items: Iterable, stop: Callable[[], None] = lambda: None) -> Iterator:
  """The items up to a signal to stop, which ends a stream as its last frame does.

  `stop` is called at the signal, to end what waits for a frame. A second SIGINT, where the source
  has nothing more to give, interrupts.
  """
  asked = []

  def ask(number):
    if asked:
      raise KeyboardInterrupt
    asked.append(number)
    stop()

  with signals.listening(ask):
    for item in items:
      yield item
      if asked:
        return


@contextlib.contextmanager
def _listening_for_resets() -> Iterator[Callable[[], bool]]:
  """Within, SIGUSR1 asks for a reset; yields what says once whether somebody did."""
  asked = []

  def take() -> bool:
    was_asked = bool(asked)
    asked.clear()
    return was_asked

  number = getattr(signal, 'SIGUSR1', None)
  if number is None or threading.current_thread() is not threading.main_thread():
    yield take
    return
  before = signal.signal(number, lambda *_: asked.append(True))
  try:
    yield take
  finally:
    signal.signal(number, before)


@dataclasses.dataclass(frozen=True)
class Step:
  """One call of a stream.

  Attributes:
    prediction: after it.
    times_secs: of its frames, since the first one of the source.
    pictures: the frames as they came, [H, W, 3]; () unless they were asked for.
    reset: why the stream forgot what was before these frames; '' if it did not.
  """

  prediction: serve.Prediction
  times_secs: tuple[float, ...]
  pictures: tuple[np.ndarray, ...] = ()
  reset: str = ''


def predict(
  live: serve.Live,
  feed: Feed,
  clip: data.EvalClip,
  fps: float,
  chunk: int = 1,
  *,
  pictures: bool = False,
  cuts: bool = False,
  asked: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
  """Streams a source, a step for each chunk of frames.

  The network sees the frames and the crop of an evaluation. Frames that do not fill a last chunk
  are left out. A reset takes effect at the first frame of a chunk.

  Args:
    pictures: whether steps hold the source's whole pictures.
    cuts: whether to forget at cuts.
    asked: says whether somebody asks to forget.
  """
  frames = serve.mark_scenes(feed.frames()) if cuts else feed.frames()
  crop, whole = Painting(clip.frame), Painting()
  last, taken, reset = None, [], ''
  for shown in hold_frames(frames, fps):
    if last is not None:
      reset = _find_reset(last, shown) or ('asked' if asked() else reset)
    last = shown
    taken.append((shown.secs, crop.paint(shown), whole.paint(shown) if pictures else None))
    if len(taken) == chunk:
      times_secs, crops, wholes = zip(*taken, strict=True)
      if reset:
        live.forget()
      yield Step(live(np.stack(crops)), times_secs, wholes if pictures else (), reset)
      taken, reset = [], ''


def _find_reset(before, shown) -> str:
  """Why what was before this frame is over; '' if it is not."""
  if shown.part != before.part:
    return 'lost'
  return 'cut' if shown.scene != before.scene else ''


def find_fps(clip: data.EvalClip, feed: Feed) -> float:
  """Frames per second that a clip of this source has."""
  return clip.fps or feed.find_mean_fps() / clip.stride


def choose_memory(
  wanted: tuple[str, float | None] | None, source: LiveSource, clip: data.EvalClip, fps: float
) -> serve.Memory:
  """The memory that a command line names.

  Args:
    wanted: its kind and its seconds; None for the kind that suits the source, or the seconds that
      suit the network: a window of two clips, in which the older state has seen one at least, or a
      half-life of one clip.
  """
  kind, secs = wanted or ('window' if source.live else 'exact', None)
  if secs is None:
    secs = clip.frames / fps * (2 if kind == 'window' else 1)
  if kind == 'window':
    _tell(f'answers are of the last {secs / 2:.3g} to {secs:.3g} s (--memory=window:{secs:.3g})')
  elif kind == 'forget':
    _tell(f'a frame weighs half after {secs:.3g} s (--memory=forget:{secs:.3g})')
  return serve.make_memory(kind, secs, fps)


def _print_json(step, top):
  line = {
    'frame': step.prediction.frame,
    'secs': round(step.times_secs[-1], 3),
    'latency_ms': round(step.prediction.latency_ms, 3),
    'top': [{'label': label, 'probability': round(p, 5)} for label, p in top],
  }
  print(json.dumps({**line, 'reset': step.reset} if step.reset else line), flush=True)


_RESETS = {
  'cut': 'a cut: what was before is forgotten',
  'lost': 'the source was lost: what was before is forgotten',
  'asked': 'what was before is forgotten, as asked',
}


def _print_line(step, top):
  seconds, prediction = step.times_secs[-1], step.prediction
  if step.reset:
    print(f'{step.times_secs[0]:8.2f} s  {_RESETS[step.reset]}')
  classes = '   '.join(f'{label} {p:6.1%}' for label, p in top)
  print(
    f'{seconds:8.2f} s  frame {prediction.frame:5d}  {prediction.latency_ms:6.1f} ms   {classes}',
    flush=True,
  )


def _tell_damage(feed: Feed):
  if feed.damaged:
    _tell(f'{feed.damaged} frames of the source were damaged')


def _print_summary(live, feed, secs, as_json):
  summary = {
    'frames': live.frames,
    'frames_per_sec': live.frames / secs,
    **live.latency.percentiles(),
  }
  if as_json:
    numbers = {key: round(value, 3) for key, value in summary.items()}
    text = json.dumps({**numbers, 'damaged': feed.damaged})
  else:
    text = (
      '{frames} frames, {frames_per_sec:.1f} a second with decoding; a call took '
      '{p50_ms:.2f} ms (median), {p90_ms:.2f} (90 %), {p99_ms:.2f} (99 %)'
    ).format(**summary)
  _tell(text)


def _source(text: str) -> LiveSource:
  """The type of --source: what `parse_source` knows, and paths as everywhere."""
  try:
    is_path = text != '-' and '://' not in text
    return parse_source(find_local(text) if is_path else text)
  except ValueError as error:  # whose message argparse would not show
    raise argparse.ArgumentTypeError(str(error)) from error


def _find_pictures(source: LiveSource, fps: float | None) -> LiveSource:
  """The source itself, or the pictures in the folder that it names, which have no rate."""
  if isinstance(source, File) and os.path.isdir(source.path):
    if fps is None:
      raise ValueError(
        f'{source.path} is a folder: if it holds the pictures of a video, say with --source-fps '
        'how many of them are shown a second'
      )
    return Folder(data.FrameFolder(source.path, fps))
  if fps is not None:
    raise ValueError(
      f'--source-fps={fps:g} is for a folder of pictures, and {source.name} is none: --fps says '
      'how many frames a second the network takes'
    )
  return source


def _memory(text: str) -> tuple[str, float | None]:
  """The type of --memory: KIND or KIND:SECS."""
  kind, colon, secs = text.partition(':')
  try:
    if kind not in serve.MEMORIES or (kind == 'exact' and colon):
      raise ValueError
    value = float(secs) if colon else None
    if value is not None and not 0 < value < math.inf:
      raise ValueError
  except ValueError:
    raise argparse.ArgumentTypeError(
      f'{text!r} is none of exact, window, window:SECS, forget and forget:HALF_LIFE, with a number '
      'of seconds above 0'
    ) from None
  return kind, value


def _at_least_0(text: str) -> float:
  return 0.0 if text == '0' else positive(text)


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('stream', __doc__)
  add = parser.add_argument
  add_trained(parser)
  add(
    '--source',
    type=_source,
    required=True,
    help='video file, folder of pictures, named pipe, - for standard input, camera number or '
    'device, or address: rtsp://, rtsps://, rtmp://, rtmps://, http://, https://, srt://, udp://',
  )
  add('--source-fps', type=positive, help='pictures a second of a folder of pictures')
  add('--top', type=at_least_1, default=3, help='classes to show')
  add('--fps', type=positive, help='frames to take per second of video')
  add('--chunk', type=at_least_1, default=1, help='frames per call')
  add(
    '--memory',
    type=_memory,
    metavar='KIND[:SECS]',
    help='exact, window:SECS or forget:HALF_LIFE; default: exact for files, else window',
  )
  add('--reset-on-cut', action='store_true', help='forget what was before a cut')
  add(
    '--reconnect-secs',
    type=_at_least_0,
    default=RECONNECT_SECS,
    help='how long a camera or an address may be lost; default: %(default)g',
  )
  add('--save', type='path', help='MP4 file to write, predictions in the picture')
  add('--json', action='store_true', help='one JSON line per call')
  return parser
