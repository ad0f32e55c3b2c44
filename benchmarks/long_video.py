"""Memory and time of a clip out of a long video, beside one out of a short video.

    python benchmarks/long_video.py [--gigabytes=2] [--format=mp4] [--frames=16]

Writes a video of noise in 720p H.264 to a temporary folder, and a short one of a hundredth of it.
A process of its own reads from each a clip of 172² from the middle, twice: the first time finds
out where its frames are, the second time knows. Prints a JSON line for each video.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

import av
import numpy as np

from movinet_jax import data


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--gigabytes', type=float, default=2.0)
  parser.add_argument('--format', default='mp4', help='suffix of the files, such as mkv or ts')
  parser.add_argument('--frames', type=int, default=16)
  parser.add_argument('--read', help=argparse.SUPPRESS)
  arguments = parser.parse_args(argv)
  if arguments.read:
    print(json.dumps(read(arguments.read, arguments.frames)))
    return 0
  with tempfile.TemporaryDirectory() as folder:
    for name, gigabytes in (('short', arguments.gigabytes / 100), ('long', arguments.gigabytes)):
      path = f'{folder}/{name}.{arguments.format}'
      write_noise(path, gigabytes * 1e9)
      command = [sys.executable, __file__, f'--read={path}', f'--frames={arguments.frames}']
      subprocess.run(command, check=True)
  return 0


def write_noise(path: str, wanted_bytes: float):
  """Writes frames of noise until the file is as large as wanted."""
  rng = np.random.default_rng(0)
  noise = [rng.integers(0, 256, (720, 1280, 3), np.uint8) for _ in range(3)]
  pictures = [
    av.VideoFrame.from_ndarray(n, format='rgb24').reformat(format='yuv420p') for n in noise
  ]
  options = {'qp': '1', 'preset': 'ultrafast', 'g': '30'}
  with av.open(path, 'w') as output:
    stream = output.add_stream('libx264', rate=30, options=options)
    stream.width, stream.height, stream.pix_fmt = 1280, 720, 'yuv420p'
    number, written = 0, 0
    while written < wanted_bytes:
      picture = pictures[number % len(pictures)]
      picture.pts, picture.time_base, picture.pict_type = number, Fraction(1, 30), 0
      for packet in stream.encode(picture):
        written += packet.size
        output.mux(packet)
      number += 1
    output.mux(stream.encode(None))


def read(path: str, frames: int) -> dict:
  """Reads a clip twice, and says what it took of this process."""

  def choose(info: data.VideoInfo) -> data.Cut:
    middle = (info.frames - frames) // 2
    times_secs = tuple((middle + i) / info.fps for i in range(frames))
    return data.Cut(times_secs, (280, 0, 720, 720), (172, 172))

  secs = []
  for _ in range(2):
    began = time.perf_counter()
    data.read_clip(path, choose)
    secs.append(time.perf_counter() - began)
  return {
    'video_mb': round(os.path.getsize(path) / 1e6),
    'first_secs': round(secs[0], 3),
    'second_secs': round(secs[1], 3),
    'peak_mib': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
  }


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
