"""Run a trained network live on a video file or a camera, frame by frame.

  movinet stream --checkpoint=runs/mine --source=clip.mp4
  movinet stream --checkpoint=runs/mine --source=0 --top=5          (camera 0)
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --json    (a line a frame)
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --save=out.mp4

The state is carried from frame to frame: memory does not depend on how long the source
is. Frames are taken at the rate that the network was trained at (--fps to change it).
Ctrl-C ends a stream as its last frame does: what --save has written is kept.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from launch import devices
from launch.arguments import at_least_1, make_parser, positive
from launch.errors import ExitCode
from launch.runs.trained import load_trained
from movinet_jax import data, serve, signals


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  devices.check_platform()
  source, chunk = arguments.source, arguments.chunk
  if source.isdecimal():
    source = int(source)
  # Before the network is loaded: a place that cannot be written to fails at once.
  with _open_recorder(arguments.save) as recorder:
    trained = load_trained(arguments.checkpoint, arguments.which)
    fps = arguments.fps or find_fps(trained.clip, source)
    live = serve.Live(
      trained.model,
      trained.complete(),
      (trained.clip.size, trained.clip.size),
      chunk,
      multi_label=trained.multi_label,
    )
    show = _print_json if arguments.json else _print_line
    began = time.perf_counter()
    for prediction, shown in until_stopped(predict(live, source, trained.clip, fps, chunk)):
      top = prediction.top(arguments.top, trained.labels)
      show(prediction, shown[-1][0], top)
      for seconds, picture in shown if recorder else ():
        recorder.write(picture, [f'{label}  {p:.0%}' for label, p in top], seconds)
    secs = time.perf_counter() - began
  if not live.frames:
    raise ValueError(f'{arguments.source} is shorter than one chunk of frames')
  _print_summary(live, secs, arguments.json)
  return ExitCode.DONE


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
      print(f'saved {path}', file=sys.stderr)


def until_stopped(items: Iterable) -> Iterator:
  """The items up to a signal to stop, which ends a stream as its last frame does.

  A second SIGINT, where the source has nothing more to give, interrupts.
  """
  asked = []

  def ask(number):
    if asked:
      raise KeyboardInterrupt
    asked.append(number)

  with signals.listening(ask):
    for item in items:
      yield item
      if asked:
        return


def predict(
  live: serve.Live, source: str | int, clip: data.EvalClip, fps: float, chunk: int = 1
) -> Iterator[tuple[serve.Prediction, list[tuple[float, np.ndarray]]]]:
  """Streams a source: (prediction, its frames as they came with their seconds) a chunk.

  The source's whole pictures are kept for display only; the network sees the same crop as
  in evaluation. Frames that do not fill a last chunk are left out.
  """
  shown, cuts = [], []
  for seconds, picture in data.read_frames(source, fps=fps):
    height, width = picture.shape[:2]
    info = data.VideoInfo(None, fps, width, height, '')
    shown.append((seconds, picture))
    cuts.append(data.fit_frame(picture, clip.frame(info)))
    if len(cuts) == chunk:
      yield live(np.stack(cuts)), shown
      shown, cuts = [], []


def find_fps(clip: data.EvalClip, source: str | int) -> float:
  """Frames per second that a clip of this source has; a camera is taken at 25 fps."""
  if clip.fps:
    return clip.fps
  rate = 25.0 if isinstance(source, int) else data.probe(source).fps
  return rate / clip.stride


def _print_json(prediction, seconds, top):
  line = {
    'frame': prediction.frame,
    'secs': round(seconds, 3),
    'latency_ms': round(prediction.latency_ms, 3),
    'top': [{'label': label, 'probability': round(p, 5)} for label, p in top],
  }
  print(json.dumps(line), flush=True)


def _print_line(prediction, seconds, top):
  classes = '   '.join(f'{label} {p:6.1%}' for label, p in top)
  print(
    f'{seconds:8.2f} s  frame {prediction.frame:5d}  {prediction.latency_ms:6.1f} ms   {classes}',
    flush=True,
  )


def _print_summary(live, secs, as_json):
  summary = {
    'frames': live.frames,
    'frames_per_sec': live.frames / secs,
    **live.latency.percentiles(),
  }
  if as_json:
    text = json.dumps({key: round(value, 3) for key, value in summary.items()})
  else:
    text = (
      '{frames} frames, {frames_per_sec:.1f} a second with decoding; a call took '
      '{p50_ms:.2f} ms (median), {p90_ms:.2f} (90 %), {p99_ms:.2f} (99 %)'
    ).format(**summary)
  print(text, file=sys.stderr)


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('stream', __doc__)
  parser.add_argument('--checkpoint', type='path', required=True, help='workdir of a training run')
  parser.add_argument('--which', default='latest', help='latest, best or a step')
  parser.add_argument('--source', type='path', required=True, help='video file or camera number')
  parser.add_argument('--top', type=at_least_1, default=3, help='classes to show')
  parser.add_argument('--fps', type=positive, help='frames to take per second of video')
  parser.add_argument('--chunk', type=at_least_1, default=1, help='frames per call')
  parser.add_argument('--save', type='path', help='MP4 file to write, predictions in the picture')
  parser.add_argument('--json', action='store_true', help='one JSON line per call')
  return parser
