"""Clips per second of the data pipeline against bare decoding of the same frames.

    python benchmarks/data_pipeline.py [--video=FILE] [--clips=40] [--workers=0]

Takes clips of one file as training does (random time, random box, flip, 172², uint8), in
batches. Bare decoding is what PyAV needs for the same frames and nothing else: seek to
the key frame, decode in order to the last wanted frame, leave the pictures in YUV; once
as it is, and once skipping the unwanted frames that no other refers to, as our reader
does. All run in turns, so that a machine that others use slows all. Prints one JSON line.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import sys
import time

import av
import numpy as np

from movinet_jax import data
from movinet_jax.data.source import Record, make_source

_VIDEOS = pathlib.Path(__file__).parent.parent / 'tests' / 'fixtures' / 'videos'


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--video', default=str(_VIDEOS / 'long_test_h264.mp4'))
  parser.add_argument('--clips', type=int, default=40)
  parser.add_argument('--batch-size', type=int, default=4)
  parser.add_argument('--frames', type=int, default=50)
  parser.add_argument('--stride', type=int, default=5)
  parser.add_argument('--size', type=int, default=172)
  parser.add_argument('--workers', type=int, default=0)
  parser.add_argument('--rounds', type=int, default=3)
  args = parser.parse_args(argv)
  clip = data.TrainClip(args.frames, args.size, stride=args.stride)
  source = make_source([Record(args.video, 0, 'video')], ['label'])
  batches = -(-args.clips // args.batch_size)
  info = _count_info(args.video)
  secs = {'pipeline': [], 'bare': [], 'bare_skipping': []}
  for seed in range(args.rounds):
    stream = data.make_batches(
      source,
      clip,
      batch_size=args.batch_size,
      seed=seed,
      train=True,
      workers=args.workers,
    )
    with stream:
      next(stream)  # starting threads or workers is not throughput
      secs['pipeline'].append(_time(lambda s=stream: [next(s) for _ in range(batches)]))
    time.sleep(1)  # what was begun ahead of need ends, and does not slow the others
    rng = np.random.default_rng(seed)
    cuts = [clip.plan(info, rng) for _ in range(batches * args.batch_size)]
    for skip, side in ((False, 'bare'), (True, 'bare_skipping')):
      work = functools.partial(_decode_all, args.video, cuts, skip)
      secs[side].append(_time(work))
  clips = batches * args.batch_size
  speed = {side: clips / statistics.median(times) for side, times in secs.items()}
  result = {
    'benchmark': 'data_pipeline',
    'video': os.path.basename(args.video),
    'clip': f'{args.frames}x{args.size} stride {args.stride}',
    'workers': args.workers,
    'pipeline_clips_per_sec': round(speed['pipeline'], 2),
    'bare_decoding_clips_per_sec': round(speed['bare'], 2),
    'bare_skipping_clips_per_sec': round(speed['bare_skipping'], 2),
    'share_of_bare': round(speed['pipeline'] / speed['bare'], 3),
    'share_of_bare_skipping': round(speed['pipeline'] / speed['bare_skipping'], 3),
  }
  print(json.dumps(result))
  return 0


def _count_info(video: str) -> data.VideoInfo:
  seen = []

  def choose(info):
    seen.append(info)
    return data.Cut((0.0,), (0, 0, 8, 8), (8, 8))

  data.read_clip(video, choose)
  return seen[0]


def _decode_all(video: str, cuts: list[data.Cut], skip: bool):
  for cut in cuts:
    _decode(video, cut, skip)


def _decode(video: str, cut: data.Cut, skip: bool):
  """Decodes from the key frame before the first wanted frame to the last wanted."""
  with av.open(video) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    wanted = {round(at_secs / stream.time_base) for at_secs in cut.times_secs}
    container.seek(min(wanted), stream=stream, backward=True)
    for packet in container.demux(stream):
      drop = skip and packet.pts not in wanted
      stream.codec_context.skip_frame = 'NONREF' if drop else 'DEFAULT'
      for frame in packet.decode():
        if frame.pts >= max(wanted):
          return


def _time(work) -> float:
  start = time.perf_counter()
  work()
  return time.perf_counter() - start


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
