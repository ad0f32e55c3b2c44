"""Distortions: what each does to known pixels, and that a clip is treated as one."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from movinet_jax.data import augment

MAGNITUDES = {
  'brightness': 1.3,
  'contrast': 0.6,
  'colour': 1.5,
  'hue': 0.1,
  'posterize': 3,
  'solarize': 100,
  'solarize_add': 60,
  'shear_x': 0.2,
  'shear_y': -0.2,
  'translate_y': 0.25,
  'rotate': 20,
}


@pytest.fixture
def picture():
  ramp = np.linspace(20, 220, 40, dtype=np.float32)
  channels = [
    ramp[None, :] + 0 * ramp[:, None],
    ramp[:, None] + 0 * ramp,
    90 + 0 * ramp,
  ]
  stacked = np.stack(np.broadcast_arrays(*channels), axis=-1)
  noise = np.random.default_rng(0).normal(0, 12, stacked.shape)
  return np.clip(stacked + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('name', augment._OPERATIONS)
def test_all_frames_alike(picture, name):
  """A still video stays still, and the input is not written to."""
  clip = np.stack([picture] * 3)
  before = clip.copy()
  distorted = augment.distort(clip, ((name, MAGNITUDES.get(name, 0.0)),))
  np.testing.assert_array_equal(clip, before)
  assert distorted.shape == clip.shape
  assert distorted.dtype == np.uint8
  assert (distorted != clip).any()
  np.testing.assert_array_equal(distorted, np.stack([distorted[0]] * 3))


@pytest.mark.parametrize('name', ['equalize', 'autocontrast'])
def test_histogram_is_that_of_the_clip(picture, name):
  """Dark frames stay darker than light ones, which frame by frame they would not."""
  clip = np.stack([picture // 2, picture // 2 + 120])
  dark, light = augment.distort(clip, ((name, 0.0),))
  assert dark.mean() + 60 < light.mean()


def pillow_version(image, name):
  return {
    'invert': lambda: ImageOps.invert(image),
    'posterize': lambda: ImageOps.posterize(image, 3),
    'solarize': lambda: ImageOps.solarize(image, 100),
    'equalize': lambda: ImageOps.equalize(image),
    'autocontrast': lambda: ImageOps.autocontrast(image),
    'brightness': lambda: ImageEnhance.Brightness(image).enhance(1.3),
    'colour': lambda: ImageEnhance.Color(image).enhance(1.5),
    'contrast': lambda: ImageEnhance.Contrast(image).enhance(0.6),
  }[name]()


@pytest.mark.parametrize(
  ('name', 'tolerance'),
  [
    ('invert', 0),
    ('posterize', 0),
    ('solarize', 0),
    ('equalize', 0),
    ('autocontrast', 1),
    ('brightness', 1),
    ('colour', 2),
    ('contrast', 2),
  ],
)
def test_one_frame_agrees_with_pillow(picture, name, tolerance):
  ours = augment.distort(picture[None], ((name, MAGNITUDES.get(name, 0.0)),))[0]
  theirs = np.asarray(pillow_version(Image.fromarray(picture), name))
  difference = np.abs(ours.astype(int) - theirs.astype(int))
  assert difference.max() <= tolerance


def test_moves_go_where_they_say():
  clip = np.full((1, 40, 40, 3), 10, np.uint8)
  clip[:, 20] = 250
  lower = augment.distort(clip, (('translate_y', -0.25),))[0]
  assert (lower[30] == 250).all()
  assert (lower[:10] == 128).all()  # grey comes in
  turned = augment.distort(clip, (('rotate', 90.0),))[0]
  assert (turned[:, 19:21] == 250).any(axis=(1, 2)).all()


def test_flat_pictures_survive():
  for value in (0, 77, 255):
    clip = np.full((2, 8, 8, 3), value, np.uint8)
    for name in ('equalize', 'autocontrast'):
      np.testing.assert_array_equal(augment.distort(clip, ((name, 0.0),)), clip)


def test_no_strength_is_no_change(picture):
  chosen = augment.choose_colour(np.random.default_rng(0), 0.0)
  same = augment.distort(picture[None], chosen)[0]
  assert np.abs(same.astype(int) - picture).max() <= 1


def test_policy_is_drawn_with_its_probabilities():
  rng = np.random.default_rng(0)
  drawn = [augment.choose_policy(rng) for _ in range(20_000)]
  names = [name for distortions in drawn for name, _ in distortions]
  assert set(names) <= set(augment._OPERATIONS)
  for name in ('equalize', 'rotate', 'invert', 'translate_y'):
    share = names.count(name) / len(drawn)
    wanted = sum(p for pair in augment.POLICY_V0 for n, p, _ in pair if n == name) / 25
    assert share == pytest.approx(wanted, abs=0.015), name
  signs = {m > 0 for distortions in drawn for n, m in distortions if n == 'rotate'}
  assert signs == {True, False}


def test_policy_never_blacks_out(picture):
  """The reference posterizes to no bit at all at level 2; ours leaves something."""
  clip = np.stack([picture] * 2)
  rng = np.random.default_rng(1)
  for _ in range(200):
    assert augment.distort(clip, augment.choose_policy(rng)).std() > 1


def test_quick_forms_give_every_bit_of_the_plain_ones():
  """A stream that is resumed must not change, so what is quick must be exact."""
  clip = np.random.default_rng(0).integers(0, 256, (3, 20, 31, 3), dtype=np.uint8)
  tables = np.random.default_rng(1).integers(0, 256, (3, 256))
  for seen in (clip, clip[:, :, ::-1], clip // 3):
    np.testing.assert_array_equal(augment._look_up(seen, tables[0]), tables[0][seen])
    wanted = np.stack([tables[c][seen[..., c]] for c in range(3)], -1)
    np.testing.assert_array_equal(augment._look_up(seen, tables), wanted)
    np.testing.assert_array_equal(augment._mean(seen), seen.mean((0, 1, 2)))
    counts = [np.bincount(seen[..., c].ravel(), minlength=256) for c in range(3)]
    np.testing.assert_array_equal(augment._histograms(seen), counts)
