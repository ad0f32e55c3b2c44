"""Colour jitter and AutoAugment for clips, in numpy and Pillow on uint8.

A distortion is a (name, magnitude) pair, drawn once for a clip and done alike to all its
frames: choosing is here apart from doing, so that a clip's plan is plain data. Histogram
operations (equalize, autocontrast) use the histogram of the whole clip. Done frame by
frame, as one would for pictures, they would make a still video flicker.
"""

import numpy as np
from PIL import Image

Distortions = tuple[tuple[str, float], ...]

_GREY = (128, 128, 128)  # what moves in from outside the picture
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

# AutoAugment's ImageNet policy 'v0', as the TensorFlow MoViNet configs name it: one of
# these 25 pairs of (operation, probability, level of 10) is drawn for each clip. It is
# EfficientNet's list; Cubuk et al., arXiv:1805.09501, print another one.
POLICY_V0 = (
  (('equalize', 0.8, 1), ('shear_y', 0.8, 4)),
  (('colour', 0.4, 9), ('equalize', 0.6, 3)),
  (('colour', 0.4, 1), ('rotate', 0.6, 8)),
  (('solarize', 0.8, 3), ('equalize', 0.4, 7)),
  (('solarize', 0.4, 2), ('solarize', 0.6, 2)),
  (('colour', 0.2, 0), ('equalize', 0.8, 8)),
  (('equalize', 0.4, 8), ('solarize_add', 0.8, 3)),
  (('shear_x', 0.2, 9), ('rotate', 0.6, 8)),
  (('colour', 0.6, 1), ('equalize', 1.0, 2)),
  (('invert', 0.4, 9), ('rotate', 0.6, 0)),
  (('equalize', 1.0, 9), ('shear_y', 0.6, 3)),
  (('colour', 0.4, 7), ('equalize', 0.6, 0)),
  (('posterize', 0.4, 6), ('autocontrast', 0.4, 7)),
  (('solarize', 0.6, 8), ('colour', 0.6, 9)),
  (('solarize', 0.2, 4), ('rotate', 0.8, 9)),
  (('rotate', 1.0, 7), ('translate_y', 0.8, 9)),
  (('shear_x', 0.0, 0), ('solarize', 0.8, 4)),
  (('shear_y', 0.8, 0), ('colour', 0.6, 4)),
  (('colour', 1.0, 0), ('rotate', 0.6, 2)),
  (('equalize', 0.8, 4), ('equalize', 0.0, 8)),
  (('equalize', 1.0, 4), ('autocontrast', 0.6, 2)),
  (('shear_y', 0.4, 7), ('solarize_add', 0.6, 7)),
  (('posterize', 0.8, 2), ('solarize', 0.6, 10)),
  (('solarize', 0.6, 8), ('equalize', 0.6, 1)),
  (('colour', 0.8, 6), ('rotate', 0.4, 5)),
)


def choose_colour(rng: np.random.Generator, strength: float) -> Distortions:
  """Brightness, contrast and saturation within 1 ± strength, hue within ± strength/4."""
  low, high = max(0.0, 1 - strength), 1 + strength
  factors = rng.uniform(low, high, size=3)
  turns = rng.uniform(-strength / 4, strength / 4)
  names = ('brightness', 'contrast', 'colour')
  return (*zip(names, map(float, factors), strict=True), ('hue', float(turns)))


def choose_policy(rng: np.random.Generator) -> Distortions:
  """Draws one pair of AutoAugment v0, its two operations and their directions."""
  chosen = []
  for name, probability, level in POLICY_V0[rng.integers(len(POLICY_V0))]:
    keep, sign = rng.uniform() < probability, rng.choice((-1, 1))
    if keep:
      chosen.append((name, float(_magnitude(name, level, sign))))
  return tuple(chosen)


def distort(clip: np.ndarray, distortions: Distortions) -> np.ndarray:
  """Does the distortions in order to uint8 `[T, H, W, 3]`; returns the same shape."""
  for name, magnitude in distortions:
    clip = _OPERATIONS[name](clip, magnitude)
  return clip


def _magnitude(name: str, level: float, sign: int) -> float:
  share = level / 10
  match name:
    case 'shear_x' | 'shear_y':
      return sign * share * 0.3
    case 'translate_y':
      # The reference moves by 250 pixels x share, which at level 9 leaves nothing of a
      # 172-pixel picture. A share of the height instead keeps half of it in view.
      return sign * share * 0.45
    case 'rotate':
      return sign * share * 30  # degrees
    case 'colour':
      return share * 1.8 + 0.1
    case 'solarize':
      return int(share * 256)
    case 'solarize_add':
      return int(share * 110)
    case 'posterize':
      # Level 2 would leave no bit at all, a black clip, as it does in the reference.
      return max(1, int(share * 4))
    case _:
      return 0.0


def _look_up(clip: np.ndarray, table: np.ndarray) -> np.ndarray:
  """Maps values through `[256]` or, per channel, `[3, 256]`; tables may be float."""
  table = np.clip(np.round(table), 0, 255).astype(np.uint8)
  if table.ndim == 1:  # five times as fast as an index
    return np.frombuffer(bytearray(clip).translate(table.tobytes()), np.uint8).reshape(clip.shape)
  return np.asarray(_as_picture(clip).point(table.ravel().tolist())).reshape(clip.shape)


def _as_picture(clip: np.ndarray) -> Image.Image:
  """All frames of a clip, one below the other."""
  return Image.fromarray(clip.reshape(-1, *clip.shape[2:]))


def _histograms(clip: np.ndarray) -> np.ndarray:
  """How often each value is there in each channel, `[3, 256]`."""
  return np.reshape(_as_picture(clip).histogram(), (3, 256))


def _mean(clip: np.ndarray) -> np.ndarray:
  """The mean of each channel, `[3]`; sums of whole rows are taken at once."""
  rows = clip.reshape(-1, clip.shape[2] * 3).sum(0, dtype=np.uint64)
  return rows.reshape(-1, 3).sum(0) / (clip.size // 3)


def _equalize(clip: np.ndarray, _: float) -> np.ndarray:
  """Pillow's and TensorFlow's formula, in whole numbers."""
  tables = []
  for counts in _histograms(clip):
    step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
    below = np.cumsum(counts) - counts
    tables.append((below + step // 2) // step if step else np.arange(256))
  return _look_up(clip, np.stack(tables))


def _autocontrast(clip: np.ndarray, _: float) -> np.ndarray:
  tables = []
  for counts in _histograms(clip):
    used = np.flatnonzero(counts)
    low, high = used[0], max(used[-1], used[0] + 1)
    flat = len(used) < 2
    tables.append(np.arange(256) if flat else (np.arange(256) - low) * 255 / (high - low))
  return _look_up(clip, np.stack(tables))


def _brightness(clip: np.ndarray, factor: float) -> np.ndarray:
  return _look_up(clip, np.arange(256) * factor)


def _contrast(clip: np.ndarray, factor: float) -> np.ndarray:
  middle = float(_mean(clip) @ _LUMA)
  return _look_up(clip, (np.arange(256) - middle) * factor + middle)


def _mix(clip: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Multiplies each RGB pixel by a 3x3 matrix."""
  mixed = clip.astype(np.float32) @ matrix.T.astype(np.float32)
  return np.clip(np.rint(mixed, out=mixed), 0, 255, out=mixed).astype(np.uint8)


def _colour(clip: np.ndarray, factor: float) -> np.ndarray:
  """Saturation: 0 is grey, 1 is unchanged."""
  return _mix(clip, factor * np.eye(3) + (1 - factor) * np.tile(_LUMA, (3, 1)))


def _hue(clip: np.ndarray, turns: float) -> np.ndarray:
  """Turns the colours round the grey axis of YIQ by a share of a full turn."""
  to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
  cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
  turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
  return _mix(clip, np.linalg.inv(to_yiq) @ turn @ to_yiq)


def _invert(clip: np.ndarray, _: float) -> np.ndarray:
  return 255 - clip


def _posterize(clip: np.ndarray, bits: float) -> np.ndarray:
  return clip & np.uint8((0xFF << (8 - int(bits))) & 0xFF)


def _solarize(clip: np.ndarray, threshold: float) -> np.ndarray:
  values = np.arange(256)
  return _look_up(clip, np.where(values < threshold, values, 255 - values))


def _solarize_add(clip: np.ndarray, addition: float) -> np.ndarray:
  values = np.arange(256)
  return _look_up(clip, np.where(values < 128, values + addition, values))


def _move(clip: np.ndarray, matrix: tuple[float, ...]) -> np.ndarray:
  """Affine move of every frame; the matrix maps output to input pixels, as Pillow's."""
  size = (clip.shape[2], clip.shape[1])
  moved = [
    Image.fromarray(frame).transform(
      size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=_GREY
    )
    for frame in clip
  ]
  return np.stack([np.asarray(frame) for frame in moved])


def _shear_x(clip: np.ndarray, amount: float) -> np.ndarray:
  return _move(clip, (1, amount, 0, 0, 1, 0))


def _shear_y(clip: np.ndarray, amount: float) -> np.ndarray:
  return _move(clip, (1, 0, 0, amount, 1, 0))


def _translate_y(clip: np.ndarray, share: float) -> np.ndarray:
  return _move(clip, (1, 0, 0, 0, 1, share * clip.shape[1]))


def _rotate(clip: np.ndarray, degrees: float) -> np.ndarray:
  frames = [Image.fromarray(frame).rotate(degrees, fillcolor=_GREY) for frame in clip]
  return np.stack([np.asarray(frame) for frame in frames])


_OPERATIONS = {
  'equalize': _equalize,
  'autocontrast': _autocontrast,
  'brightness': _brightness,
  'contrast': _contrast,
  'colour': _colour,
  'hue': _hue,
  'invert': _invert,
  'posterize': _posterize,
  'solarize': _solarize,
  'solarize_add': _solarize_add,
  'shear_x': _shear_x,
  'shear_y': _shear_y,
  'translate_y': _translate_y,
  'rotate': _rotate,
}
