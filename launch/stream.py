"""Run a trained network live on a video file or a camera, frame by frame.

  movinet stream --checkpoint=runs/mine --source=clip.mp4
  movinet stream --checkpoint=runs/mine --source=0 --top=5          (camera 0)
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --json    (a line a frame)
  movinet stream --checkpoint=runs/mine --source=clip.mp4 --save=out.mp4

The state is carried from frame to frame: memory does not depend on how long the source
is. Frames are taken at the rate that the network was trained at (--fps to change it).
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from launch import parts
from launch.arguments import at_least_1, make_parser
from movinet_jax import data, serve


def main(argv: Sequence[str]) -> int:
  arguments = _make_parser().parse_args(argv)
  source = arguments.source
  if source.isdecimal():
    source = int(source)
  trained = parts.load_trained(arguments.checkpoint, arguments.which)
  fps = arguments.fps or find_fps(trained.clip, source)
  size = (trained.clip.size, trained.clip.size)
  live = serve.Live(trained.model, trained.variables, size, arguments.chunk)
  show = _print_json if arguments.json else _print_line
  with contextlib.ExitStack() as stack:
    recorder = None
    if arguments.save:
      recorder = stack.enter_context(serve.Recorder(arguments.save, fps))
    for prediction, seconds, pictures in predict(
      live, source, trained.clip, fps, arguments.chunk
    ):
      top = prediction.top(arguments.top, trained.labels)
      show(prediction, seconds, top)
      for picture in pictures if recorder else ():
        recorder.write(picture, [f'{label}  {p:.0%}' for label, p in top])
  summary = {k: round(v, 3) for k, v in live.latency.percentiles().items()}
  if not summary:
    raise ValueError(f'{arguments.source} is shorter than one chunk of frames')
  print(
    f'latency of {arguments.chunk} frame(s): {json.dumps(summary)}', file=sys.stderr
  )
  if arguments.save:
    print(f'saved {arguments.save}', file=sys.stderr)
  return 0


def predict(
  live: serve.Live, source: str | int, clip: data.EvalClip, fps: float, chunk: int = 1
) -> Iterator[tuple[serve.Prediction, float, list[np.ndarray]]]:
  """Streams a source: (prediction, seconds, the pictures as they came) for each chunk.

  The source's whole pictures are kept for display only; the network sees the same crop as
  in evaluation. Frames that do not fill a last chunk are left out.
  """
  pictures, cuts = [], []
  for seconds, picture in data.read_frames(source, fps=fps):
    height, width = picture.shape[:2]
    info = data.VideoInfo(None, fps, width, height, '')
    pictures.append(picture)
    cuts.append(data.fit_frame(picture, clip.frame(info)))
    if len(cuts) == chunk:
      yield live(np.stack(cuts)), seconds, pictures
      pictures, cuts = [], []


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
    f'{seconds:8.2f} s  frame {prediction.frame:5d}  {prediction.latency_ms:6.1f} ms   '
    f'{classes}',
    flush=True,
  )


def _make_parser():
  parser = make_parser('stream', __doc__)
  parser.add_argument('--checkpoint', required=True, help='workdir of a training run')
  parser.add_argument('--which', default='latest', help='latest, best or a step')
  parser.add_argument('--source', required=True, help='video file or camera number')
  parser.add_argument('--top', type=at_least_1, default=3, help='classes to show')
  parser.add_argument('--fps', type=float, help='frames to take per second of video')
  parser.add_argument('--chunk', type=at_least_1, default=1, help='frames per call')
  parser.add_argument('--save', help='MP4 file to write, predictions in the picture')
  parser.add_argument('--json', action='store_true', help='one JSON line per call')
  return parser
