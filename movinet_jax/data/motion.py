"""Videos whose class is in the motion alone: the test that a network sees time.

Every video is one random smooth texture on a torus, moved without a seam. The class says
only how it moves. As the texture starts at a random place, each single frame of every
class has the same distribution: a network that looks at frames one by one can do no
better than chance, one that sees motion can be perfect. Left and right are classes here,
so train with `flip=False`.

Gratings are for networks of two streams. Each frame is a new texture with a diagonal grating in
it. The class `rising-left` says how the grating leans and how it moves. One frame tells how it
leans. Neighbouring frames tell how it moves. Frames 8 apart do not, as the grating moves by a
whole period in 8 frames. The class `rising` says only how the grating leans: its place in each
frame is random.

The videos are real H.264 files, so the whole path from the file on is exercised. Every
frame in them is a key frame, as a coded difference would betray the motion.
"""

import dataclasses
import json
import os
import shutil
from fractions import Fraction

import av
import numpy as np

from movinet_jax.names import suggest

_MODES = 4  # waves per picture, at most: the shortest is 12 pixels of 48
_MEAN, _DEVIATION = 128, 42  # of the pixels, in every channel
_TURN_FRAMES = 8  # of the patterns that change direction


def _straight(right: float, down: float):
  return lambda frames: np.tile([right, down], (frames, 1))


def _circle(sign: int):
  def move(frames: int) -> np.ndarray:
    angle = sign * 2 * np.pi * np.arange(frames) / _TURN_FRAMES
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)

  return move


def _swing(right: float, down: float):
  def move(frames: int) -> np.ndarray:
    sign = 1 - 2 * (np.arange(frames) // (_TURN_FRAMES // 2) % 2)
    return sign[:, None] * np.array([right, down])

  return move


# Direction of each step as (right, down), of length 1: all classes are equally fast.
PATTERNS = {
  'left': _straight(-1, 0),
  'right': _straight(1, 0),
  'up': _straight(0, -1),
  'down': _straight(0, 1),
  'clockwise': _circle(1),
  'counterclockwise': _circle(-1),
  'swing_across': _swing(1, 0),
  'swing_upright': _swing(0, 1),
}
STRAIGHT = ('left', 'right', 'up', 'down')

# Of gratings. All lean, as one along an axis would hide motion along it.
_LEANS = {'rising': 1, 'falling': -1}  # sign of the phase downwards
_WAYS = {'left': -1, 'right': 1}
_WAVES = 2  # periods in a picture
_PERIOD_FRAMES = 8  # in which a grating moves by a period
# Of the variance of a frame. With a tenth of it a small network learns more slowly, with 3 % it
# learns nothing in 300 steps.
_GRATING_SHARE = 0.2
LEANS = tuple(_LEANS)
GRATINGS = tuple(f'{lean}-{way}' for lean in _LEANS for way in _WAYS)
CLASSES = (*PATTERNS, *LEANS, *GRATINGS)


@dataclasses.dataclass(frozen=True)
class Motion:
  """What `write_motion` writes.

  Attributes:
    videos_per_class: in each split.
    splits: (name, share of videos_per_class) pairs.
    classes: names of CLASSES.
    frames, size, fps: length, height and width in pixels, and rate of a video.
    speed: pixels from frame to frame; 1 to 3 survives coding and is no blur. Gratings have
      their own.
    seed: of everything; equal arguments write equal bytes.
  """

  videos_per_class: int = 100
  splits: tuple[tuple[str, float], ...] = (('train', 1.0), ('val', 0.25))
  classes: tuple[str, ...] = STRAIGHT
  frames: int = 16
  size: int = 48
  fps: int = 10
  speed: float = 2.0
  seed: int = 0

  def __post_init__(self):
    for name in self.classes:
      if name not in CLASSES:
        raise ValueError(f'no motion {name!r}{suggest(name, CLASSES)}')
    if self.frames < 2:
      raise ValueError(f'motion needs 2 frames at least, got frames={self.frames}')
    if self.size < 16 or self.size % 2:
      raise ValueError(f'size must be even and 16 at least, got {self.size}')


def write_motion(root: str, **kwargs) -> int:
  """Writes `root/SPLIT/CLASS/NUMBER.mp4`; see `Motion` for the arguments.

  A folder that holds the same videos already is left as it is. The videos are written
  beside it and moved there when all are done, so there is never half of them.

  Returns:
    How many videos there are.

  Raises:
    FileExistsError: root holds something else.
  """
  motion = Motion(**kwargs)
  record = json.dumps(dataclasses.asdict(motion), indent=2)
  videos = [
    (split, name, number)
    for split, share in motion.splits
    for name in motion.classes
    for number in range(max(1, round(share * motion.videos_per_class)))
  ]
  if os.path.exists(root) and os.listdir(root):
    if _read_record(root) == record:
      return len(videos)
    raise FileExistsError(
      f'{root} holds something else than these motion videos; remove it or name another'
    )
  part = root.rstrip('/') + '.part'
  shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
  for split, name, number in videos:
    folder = os.path.join(part, split, name)
    os.makedirs(folder, exist_ok=True)
    frames = make_frames(motion, split, name, number)
    write_video(os.path.join(folder, f'{number:05d}.mp4'), frames, motion.fps)
  with open(os.path.join(part, 'motion.json'), 'w') as file:
    file.write(record)
  if os.path.isdir(root):
    os.rmdir(root)
  os.rename(part, root)
  return len(videos)


def make_frames(motion: Motion, split: str, name: str, number: int) -> np.ndarray:
  """One video, uint8 `[T, H, W, 3]`, before it is coded."""
  splits = [split for split, _ in motion.splits]
  key = (motion.seed, splits.index(split), CLASSES.index(name), number)
  rng = np.random.default_rng(key)
  draw = _move_texture if name in PATTERNS else _draw_grating
  pixels = draw(motion, name, rng).transpose(0, 2, 3, 1)
  return np.clip(np.round(pixels * _DEVIATION + _MEAN), 0, 255).astype(np.uint8)


def _move_texture(motion: Motion, name: str, rng: np.random.Generator) -> np.ndarray:
  """One texture that moves by a pattern, `[T, 3, H, W]` of mean 0 and deviation 1."""
  waves = _make_waves(motion.size, rng)
  steps = motion.speed * PATTERNS[name](motion.frames)
  places = np.cumsum(steps, axis=0)
  frequency = np.fft.fftfreq(motion.size)
  across = np.exp(-2j * np.pi * places[:, :1] * frequency)  # [T, W]
  down = np.exp(-2j * np.pi * places[:, 1:] * frequency)  # [T, H]
  moved = waves * (down[:, :, None] * across[:, None, :])[:, None]  # [T, 3, H, W]
  return np.fft.ifft2(moved).real


def _draw_grating(motion: Motion, name: str, rng: np.random.Generator) -> np.ndarray:
  """A grating in a new texture each frame, `[T, 3, H, W]` of mean 0 and deviation 1."""
  lean, _, way = name.partition('-')
  turns = rng.random(motion.frames)  # of the phase
  if way:
    turns = turns[0] - _WAYS[way] * np.arange(motion.frames) / _PERIOD_FRAMES
  place = np.arange(motion.size) * _WAVES / motion.size
  right, down = place, _LEANS[lean] * place[:, None]
  grating = np.sqrt(2) * np.cos(2 * np.pi * (right + down + turns[:, None, None]))
  textures = np.stack([_make_waves(motion.size, rng) for _ in range(motion.frames)])
  shares = np.sqrt([_GRATING_SHARE, 1 - _GRATING_SHARE])
  return shares[0] * grating[:, None] + shares[1] * np.fft.ifft2(textures).real


def _make_waves(size: int, rng: np.random.Generator) -> np.ndarray:
  """Spectrum `[3, H, W]` of a smooth random picture of mean 0 and deviation 1.

  Amplitudes and phases are drawn independently for each wave, so a shift of the picture,
  which only turns phases, leaves its distribution as it was.
  """
  frequency = np.abs(np.fft.fftfreq(size) * size)
  low = (frequency[:, None] <= _MODES) & (frequency[None, :] <= _MODES)
  low[0, 0] = False
  waves = np.fft.fft2(rng.standard_normal((3, size, size))) * low
  power = np.sqrt((np.abs(waves) ** 2).sum(axis=(1, 2), keepdims=True)) / size**2
  return waves / power


def write_video(path: str, frames: np.ndarray, fps: int | Fraction):
  """Codes uint8 `[T, H, W, 3]` as H.264; the same frames give the same bytes."""
  _, height, width, _ = frames.shape
  with av.open(path, 'w', options={'fflags': '+bitexact'}) as container:
    # Each frame is coded by itself with a fixed quantiser. Coded from other frames, its
    # errors bear traces of the motion: a linear probe of the spectrum of single frames
    # was right on 39 % of four classes. And x264's vector code gives other bytes now and
    # then (3 files of 400) unless told not to.
    options = {'g': '1', 'qp': '16', 'preset': 'veryfast', 'threads': '1'}
    options['x264-params'] = 'cpu-independent=1'
    stream = container.add_stream('libx264', rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
    for frame in frames:
      picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
      container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def _read_record(root: str) -> str | None:
  try:
    with open(os.path.join(root, 'motion.json')) as file:
      return file.read()
  except OSError:
    return None
