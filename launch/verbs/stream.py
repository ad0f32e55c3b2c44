"""Run a trained network live on a video, a camera or an address, frame by frame.

  movinet stream --checkpoint=runs/mine --source=clip.mp4
  movinet stream --checkpoint=ckpt-1 --network=movinet/a0-stream --source=clip.mp4
  movinet stream --checkpoint=runs/mine --source=0 --top=5          (camera 0)
  movinet stream --model=mine/model.tflite --source=0               (a file of movinet export)
  movinet stream --checkpoint=runs/mine --source=rtsp://user:password@camera/live
  ffmpeg … -f matroska - | movinet stream --checkpoint=runs/mine --source=-
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --json    (a line a call)
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --save=out.mp4
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --serve   (a page on 127.0.0.1)
  movinet stream --checkpoint=runs/mine --source=browser --serve    (the browser's camera)

Frames are taken at the rate that the network was trained at (--fps to change it), the same ones
that an evaluation takes. The state is carried from frame to frame: memory does not depend on how
long the source is.

--memory says what an answer is of: `exact`, all frames so far, the default for files;
`window:SECS`, the last SECS / 2 to SECS seconds, the default for live sources; or
`forget:HALF_LIFE`, less and less. --reset-on-cut forgets at each cut of a film, and SIGUSR1 at any
time. docs/streaming.md compares them.

--serve shows the picture and the answers on a page that this machine alone can open. A file is
played at its own speed, and the page stays until Ctrl-C.

Ctrl-C ends a stream as its last frame does: what --save has written is kept.
"""

import argparse
import contextlib
import functools
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from launch import devices
from launch.arguments import add_trained, at_least_1, make_parser, positive
from launch.errors import ExitCode
from launch.runs.streams import AnySource, Stream, choose_memory, open_source, tell
from launch.runs.trained import load_given
from movinet_jax import data, export, serve, signals
from movinet_jax.data.address import File, Folder, parse_source
from movinet_jax.data.live import RECONNECT_SECS, Feed
from movinet_jax.paths import find_local


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  devices.check_platform()
  source = _find_pictures(arguments.source, arguments.source_fps)
  _check_browser(arguments)
  with contextlib.ExitStack() as stack:
    resets = stack.enter_context(_listening_for_resets())
    # Before the network is loaded: a place that cannot be written to, a port that is taken, or a
    # source that is not there, fails at once.
    recorder = stack.enter_context(_open_recorder(arguments.save))
    page = None if arguments.serve is None else stack.enter_context(serve.Page(arguments.serve))
    broadcast = serve.Broadcast(resets.ask)
    reopen = functools.partial(open_source, source, arguments.reconnect_secs, broadcast.hear)
    feed = stack.enter_context(reopen())
    stream = _make_stream(arguments, source, reopen, feed, resets)
    stack.callback(_tell_damage, feed)
    steps, stop = stream.play(feed, page, broadcast)
    if page:
      tell(f'the stream is shown at {page.address} until Ctrl-C')
    frames, secs, began = 0, 0.0, time.perf_counter()
    for step in until_stopped(steps, stop):
      frames += len(step.times_secs)
      top = stream.find_top(step)
      (_print_json if arguments.json else _print_line)(step, top)
      for seconds, picture in zip(step.times_secs, step.pictures, strict=False):
        recorder.write(picture, [f'{label}  {p:.0%}' for label, p in top], seconds)
      secs = time.perf_counter() - began
    if not frames and feed.stopped:
      return ExitCode.INTERRUPTED
    if not frames:
      raise ValueError(f'{source.name} is shorter than one chunk of frames')
  # A page waits for viewers, and a file plays at its own speed there: a rate would say nothing.
  fps = None if page else frames / secs
  _print_summary(frames, stream.live.latency, feed.damaged, fps, arguments.json)
  return ExitCode.DONE


def _make_stream(arguments, source: AnySource, reopen, feed: Feed, resets: serve.Resets) -> Stream:
  trained = load_given(arguments)
  fps = arguments.fps or serve.find_fps(trained.clip, feed)
  chunk, memory = arguments.chunk or 1, choose_memory(arguments.memory, source, trained.clip, fps)
  if trained.file:
    chunk = _find_chunk(arguments.chunk, trained.file)
    live = serve.LiveFile(trained.file, threads=arguments.threads, memory=memory)
  else:
    size, multi_label = (trained.clip.size, trained.clip.size), trained.multi_label
    how = {'multi_label': multi_label, 'memory': memory}
    live = serve.Live(trained.model, trained.complete(), size, chunk, **how)
  return Stream(
    source,
    reopen,
    trained,
    live,
    fps,
    chunk,
    arguments.top,
    resets,
    cuts=arguments.reset_on_cut,
    pictures=bool(arguments.save),
  )


def _find_chunk(asked: int | None, file: export.Artifact) -> int:
  """Frames of a call of an exported file, which has its own."""
  if asked not in (None, file.manifest.frames):
    raise ValueError(
      f'--chunk={asked} does not fit {file.path}, which sees {file.manifest.frames} a call: leave '
      f'it out, or export the network with --chunk={asked}'
    )
  return file.manifest.frames


def _check_browser(arguments):
  """Refuses options that do not fit the camera of a browser."""
  if not isinstance(arguments.source, serve.BrowserCamera):
    return
  if arguments.serve is None:
    raise ValueError(
      '--source=browser is the camera of whoever looks at the page of --serve: give --serve too, '
      'or --source=./browser for a file of that name'
    )
  for flag, is_given in (('save', arguments.save), ('reset-on-cut', arguments.reset_on_cut)):
    if is_given:
      raise ValueError(
        f'--{flag} is for a source that this command reads: with --source=browser, browsers send '
        'what the network sees of their cameras'
      )


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
      tell(f'saved {path}')


def until_stopped(items: Iterable, stop: Callable[[], None] | None = None) -> Iterator:
  """Yields the items up to a signal to stop, which ends a stream as its last frame does.

  The signal calls `stop`, which has to end the items. Without it, the item at the signal is the
  last one. A second SIGINT, where the source has nothing more to give, interrupts.
  """
  asked = []

  def ask(number):
    if asked:
      raise KeyboardInterrupt
    asked.append(number)
    if stop:
      stop()

  with signals.listening(ask):
    for item in items:
      yield item
      if asked and not stop:
        return


@contextlib.contextmanager
def _listening_for_resets() -> Iterator[serve.Resets]:
  """Within, SIGUSR1 asks for a reset."""
  resets, number = serve.Resets(), getattr(signal, 'SIGUSR1', None)
  if number is None or threading.current_thread() is not threading.main_thread():
    yield resets
    return
  before = signal.signal(number, resets.ask)
  try:
    yield resets
  finally:
    signal.signal(number, before)


def _print_json(step, top):
  print(json.dumps(step.describe(top)), flush=True)


_RESETS = {
  'cut': 'a cut: what was before is forgotten',
  'lost': 'the source was lost: what was before is forgotten',
  'asked': 'what was before is forgotten, as asked',
}


def _print_line(step, top):
  seconds, prediction = step.times_secs[-1], step.prediction
  begin = '' if step.viewer is None else f'viewer {step.viewer}  '
  if step.reset:
    print(f'{begin}{step.times_secs[0]:8.2f} s  {_RESETS[step.reset]}')
  classes = '   '.join(f'{label} {p:6.1%}' for label, p in top)
  begin += f'{seconds:8.2f} s  frame {prediction.frame:5d}  {prediction.latency_ms:6.1f} ms'
  print(f'{begin}   {classes}', flush=True)


def _tell_damage(feed: Feed):
  if feed.damaged:
    tell(f'{feed.damaged} frames of the source were damaged')


def _print_summary(
  frames: int, latency: serve.Latency, damaged: int, fps: float | None, as_json: bool
):
  rate = {} if fps is None else {'frames_per_sec': fps}
  summary = {'frames': frames, **rate, **latency.percentiles()}
  if as_json:
    numbers = {key: round(value, 3) for key, value in summary.items()}
    text = json.dumps({**numbers, 'damaged': damaged})
  else:
    pace = ', {frames_per_sec:.1f} a second with decoding' if rate else ''
    text = (
      f'{{frames}} frames{pace}; a call took '
      '{p50_ms:.2f} ms (median), {p90_ms:.2f} (90 %), {p99_ms:.2f} (99 %)'
    ).format(**summary)
  tell(text)


def _source(text: str) -> AnySource:
  """The type of --source: what `parse_source` knows, paths as everywhere, and `browser`."""
  if text == 'browser':
    return serve.BrowserCamera()
  try:
    is_path = text != '-' and '://' not in text
    return parse_source(find_local(text) if is_path else text)
  except ValueError as error:  # whose message argparse would not show
    raise argparse.ArgumentTypeError(str(error)) from error


def _find_pictures(source, fps: float | None) -> AnySource:
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


def _port(text: str) -> int:
  if not (text.isascii() and text.isdecimal()) or int(text) > 65_535:
    raise argparse.ArgumentTypeError(f'{text!r} is not the number of a port, 0 to 65535')
  return int(text)


def _at_least_0(text: str) -> float:
  return 0.0 if text == '0' else positive(text)


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('stream', __doc__)
  add = parser.add_argument
  add_trained(parser, exported=True)
  add(
    '--source',
    type=_source,
    required=True,
    help='video file, folder of pictures, named pipe, - for standard input, camera number or '
    'device, address (rtsp://, rtsps://, rtmp://, rtmps://, http://, https://, srt://, udp://), '
    'or browser: the camera of whoever looks at the page of --serve (a file of that name is '
    './browser)',
  )
  add('--source-fps', type=positive, help='pictures a second of a folder of pictures')
  add('--top', type=at_least_1, default=3, help='classes to show')
  add('--fps', type=positive, help='frames to take per second of video')
  add('--chunk', type=at_least_1, help="frames per call; default: 1, or an exported file's")
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
  add(
    '--serve',
    type=_port,
    nargs='?',
    const=0,
    metavar='PORT',
    help='show the stream on a page of this machine; default: at any free port',
  )
  add('--json', action='store_true', help='one JSON line per call')
  return parser
