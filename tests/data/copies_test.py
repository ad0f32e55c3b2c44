"""Copies of real videos: whole ones are never called bad, damaged ones never pass for others."""

import hashlib
import random

import av
import numpy as np
import pytest

from movinet_jax.data import reader
from movinet_jax.data.video import Cut, DecodeError
from tests.data.containers_test import remux

NAMES = [
  *('arm_wrestling_h264.mp4', 'multi_person_h264.mp4', 'long_test_h264.mp4', 'short_test.avi'),
  *('nasa_13013_h264.mp4', 'h265.mp4', 'av1.mkv', 'h264_10bit.mp4', 'bt709_full_range.mp4'),
]
SUFFIXES = ('mp4', 'mov', 'mkv', 'webm', 'ts', 'flv', 'avi')
# FFmpeg finds damage in the pictures of these; in H.265 and AV1 it does not.
TELLING = ('h264_10bit.mp4', 'short_test.avi')


def copy(source, path, **options) -> bool:
  """Whether this container can hold this video: not all that can be written are read by players."""
  try:
    remux(source, path, sound=True, **options)
    with av.open(str(path)) as container:
      return bool(container.streams.video)
  except (av.error.FFmpegError, ValueError, TypeError):
    return False


def list_copies(source, folder, suffixes=SUFFIXES):
  """Whole copies: as they are, cut, on a late clock, and a segment that is not the first."""
  late = {'avoid_negative_ts': 'disabled'}
  kinds = {
    'whole': {},
    'cut': {'start_secs': 0.4},
    'late': {'later_secs': 12.0, 'options': late},
    'pieces': {'later_secs': 3.0, 'options': {'movflags': 'frag_keyframe+empty_moov'}},
  }
  for suffix in suffixes:
    for kind, options in kinds.items():
      path = folder / f'{kind}.{suffix}'
      if (kind != 'pieces' or suffix == 'mp4') and copy(source, path, **options):
        yield path


@pytest.mark.parametrize(
  'name',
  [n if n in ('h265.mp4', 'av1.mkv') else pytest.param(n, marks=pytest.mark.slow) for n in NAMES],
)
def test_no_whole_copy_is_called_bad(videos, name, tmp_path):
  found = list(list_copies(videos / name, tmp_path))
  assert len(found) >= 9
  for path in found:
    with av.open(str(path)) as container:
      frames = sum(1 for _ in container.decode(video=0))
    assert reader.count_frames(str(path)) == frames, path.name


def read_pictures(path):
  """Hashes of the frames up to the end or the damage, and what is told of it."""
  found = []
  try:
    choose = lambda info: Cut((), (0, 0, info.width, info.height), (24, 24))  # noqa: E731
    for _, picture in reader.read_frames(str(path), choose=choose):
      found.append(hashlib.sha256(picture.tobytes()).hexdigest())
    return found, reader.count_frames(str(path)) and ''
  except DecodeError as error:
    return found, error.reason


def damage(content: bytes, rng: random.Random) -> tuple[bytes, int]:
  """Cuts content short or flips bits of it; says how many bits, 0 for a cut."""
  if rng.random() < 0.5:
    return content[: int(len(content) * rng.uniform(0.05, 0.995))], 0
  flips, content = rng.choice([1, 3, 20, 200]), bytearray(content)
  for _ in range(flips):
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  return bytes(content), flips


@pytest.mark.parametrize(
  'seed', [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))]
)
@pytest.mark.parametrize('name', TELLING)
def test_a_damaged_copy_is_named_or_the_same_up_to_the_damage(
  videos, name, seed, tmp_path, no_hang
):
  rng = random.Random(f'{name} {seed}')
  wholes = list(list_copies(videos / name, tmp_path, ('mp4', 'mkv', 'ts', 'avi')))
  known = {path: read_pictures(path) for path in wholes}
  silent = 0
  for number in range(20):
    path = rng.choice(wholes)
    content, flips = damage(path.read_bytes(), rng)
    bad = tmp_path / f'bad{number}{path.suffix}'
    bad.write_bytes(content)
    found, reason = read_pictures(bad)
    if reason:
      continue
    whole = known[path][0]
    same = np.array([a == b for a, b in zip(found, whole, strict=False)])
    first = len(same) if same.all() else int(np.argmin(same))
    # Only the last picture of a stream that was cut between two of its packets may differ, or
    # what follows a wrong bit that the decoder does not see.
    assert flips or first >= len(found) - 1, (path.name, first, len(found))
    silent += bool(flips) and first < len(found)
  assert silent <= 2
