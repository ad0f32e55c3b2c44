"""Sampling: which frames, which box. No pixels but in the tests of exactness."""

import math

import numpy as np
import pytest

from movinet_jax.data.clip import EvalClip, TrainClip
from movinet_jax.data.filters import fit_frame
from movinet_jax.data.reader import read_clip
from movinet_jax.data.video import VideoInfo


def video(frames=250, fps=25.0, width=340, height=256):
  return VideoInfo(frames / fps, fps, width, height, 'h264', frames)


def ordinals(cut, info):
  return np.round(np.array(cut.times_secs) * info.fps).astype(int).tolist()


def rngs(count):
  return [np.random.default_rng(seed) for seed in range(count)]


def test_whole_video_in_order():
  for frames in (1, 2, 50, 251):
    for fps in (10.0, 30000 / 1001, 25.0):
      info = video(frames, fps)
      for clip in (EvalClip(frames, 64, stride=1), TrainClip(frames, 64, stride=1)):
        cut = clip.plan(info, np.random.default_rng(0))
        assert ordinals(cut, info) == list(range(frames))


@pytest.mark.parametrize('name', ['h265.mp4', 'h264_10bit.mp4', 'short_test.avi', 'av1.mkv'])
def test_whole_file_in_order(videos, name):
  """Every frame of a real file, once: the same as asking for them one by one."""
  path = str(videos / name)
  frames = {'h265.mp4': 10, 'h264_10bit.mp4': 30, 'short_test.avi': 164, 'av1.mkv': 125}
  clip = EvalClip(frames[name], 32, stride=1)
  whole, cut = read_clip(path, clip.plan)
  seen = []
  read_clip(path, lambda info: seen.append(info) or clip.plan(info))
  assert ordinals(cut, seen[0]) == list(range(frames[name]))
  assert len({frame.tobytes() for frame in whole}) > 0.9 * frames[name]


def test_movinet_clip_is_the_middle():
  info = video(300, 30.0)
  cut = EvalClip(50, 172, short_side=192, stride=5).plan(info)
  wanted = list(range(27, 273, 5))  # 246 of 300 frames: 27 before, 27 after
  assert ordinals(cut, info) == wanted


def test_short_video_is_repeated_from_its_beginning():
  info = video(7)
  for clip in (EvalClip(18, 64, stride=1), TrainClip(18, 64, stride=1)):
    cut = clip.plan(info, np.random.default_rng(4))
    assert ordinals(cut, info) == [i % 7 for i in range(18)]
  cut = EvalClip(5, 64, stride=3).plan(info)
  assert ordinals(cut, info) == [0, 3, 6, 2, 5]


def test_train_clips_cover_all_that_fits_and_no_more():
  info = video(20)
  starts = {ordinals(TrainClip(4, 64, stride=5).plan(info, r), info)[0] for r in rngs(200)}
  assert starts == set(range(5))  # 0 to 4, as 4 + 15 = 19 is the last frame


@pytest.mark.parametrize(
  ('stride', 'jitter', 'strides'),
  [(5, 0, {5}), (5, 1, {4, 5}), (1, 1, {1}), (2, 2, {1, 2, 3}), (3, 2, {1, 2, 3, 4})],
)
def test_stride_jitter_is_that_of_the_reference(stride, jitter, strides):
  info = video()
  clip = TrainClip(3, 64, stride=stride, stride_jitter=jitter)
  seen = set()
  for rng in rngs(100):
    first, second, third = ordinals(clip.plan(info, rng), info)
    assert second - first == third - second
    seen.add(second - first)
  assert seen == strides


@pytest.mark.parametrize('fps', [24.0, 25.0, 30000 / 1001, 50.0, 12.0])
def test_fps_means_seconds_whatever_the_rate_of_the_file(fps):
  info = video(round(fps * 10), fps)
  cut = EvalClip(20, 64, fps=5).plan(info)
  secs = np.array(cut.times_secs)
  start = secs[0]
  np.testing.assert_allclose(secs - start, np.arange(20) / 5, atol=1e-6)
  assert start == pytest.approx((info.duration_secs - 20 / 5) / 2, abs=0.51 / fps)


@pytest.mark.parametrize('fps', [2, 5, 7.5, 10, 12.5, 15, 24, 25, 30])
@pytest.mark.parametrize('source_fps', [5.0, 7.0, 12.5, 24.0, 25.0, 30000 / 1001, 30.0, 60.0])
def test_a_clip_that_fills_its_video_begins_with_it(source_fps, fps):
  info = video(33, source_fps)
  frames = math.ceil(info.duration_secs * fps - 1e-6)
  for clip in (EvalClip(frames, 64, fps=fps), TrainClip(frames, 64, fps=fps)):
    secs = np.array(clip.plan(info, np.random.default_rng(0)).times_secs)
    np.testing.assert_allclose(secs, np.arange(frames) / fps, atol=1e-6)
  again = np.array(EvalClip(frames + 3, 64, fps=fps).plan(info).times_secs)
  wanted = np.arange(frames, frames + 3) / fps % info.duration_secs
  wanted[info.duration_secs - wanted < 1e-6] = 0
  np.testing.assert_allclose(again[frames:], wanted, atol=1e-6)


def test_views_are_spread_from_first_to_last():
  info = video(100)
  cut = EvalClip(10, 64, stride=2, clips=4).plan(info)
  frames = np.array(ordinals(cut, info)).reshape(4, 10)
  assert frames[:, 0].tolist() == [0, 27, 54, 81]
  assert frames[-1, -1] == 99
  assert (np.diff(frames, axis=1) == 2).all()


def test_eval_box_is_short_side_then_central_crop():
  wide = EvalClip(2, 172, short_side=192, stride=1).plan(video())
  side = 256 * 172 / 192
  assert wide.box == pytest.approx((170 - side / 2, 128 - side / 2, side, side))
  assert wide.size == (172, 172)
  assert not wide.flip
  tall = EvalClip(2, 64, stride=1).plan(video(width=90, height=160))
  assert tall.box == pytest.approx((0, 35, 90, 90))


# Sizes of a picture whose shorter side is that of the clip, and where its crops begin.
CROPS = [(80, 48, [0, 16, 32]), (81, 48, [0, 17, 33]), (48, 48, [0, 0, 0])]


@pytest.mark.parametrize('tall', [False, True])
@pytest.mark.parametrize(('long', 'size', 'starts'), CROPS)
def test_three_crops_are_both_ends_and_the_middle(long, size, starts, tall):
  levels = np.arange(long, dtype=np.uint8)
  picture = np.tile(levels[None, :, None], (size, 1, 3))
  picture = picture.transpose(1, 0, 2) if tall else picture
  clip = EvalClip(1, size, stride=1, crops=3)
  cut = clip.plan(video(width=picture.shape[1], height=picture.shape[0]))
  views = clip.split(fit_frame(picture, cut)[None])
  assert views.shape == (3, 1, size, size, 3)
  for view, start in zip(views, starts, strict=True):
    shown = view[0].transpose(1, 0, 2) if tall else view[0]
    np.testing.assert_array_equal(shown[:, :, 0], [levels[start : start + size]] * size)


@pytest.mark.parametrize('tall', [False, True])
def test_crops_smaller_than_the_short_side_leave_out_both_its_borders(tall):
  """A picture of 320 x 128 scaled to 160 x 64, of which 48 squares are taken."""
  across, down = np.meshgrid(np.arange(320), np.arange(128))
  picture = np.stack([across / 2, down, 0 * down], axis=-1).astype(np.uint8)
  picture = picture.transpose(1, 0, 2) if tall else picture
  clip = EvalClip(1, 48, short_side=64, stride=1, crops=3)
  cut = clip.plan(video(width=picture.shape[1], height=picture.shape[0]))
  views = clip.split(fit_frame(picture, cut)[None])[:, 0].astype(float)
  views = views.transpose(0, 2, 1, 3) if tall else views
  for view, start in zip(views, [0, 56, 112], strict=True):
    columns, rows = view[:, :, 0].mean(0), view[:, :, 1].mean(1)
    np.testing.assert_allclose(columns, start + np.arange(48), atol=1)
    np.testing.assert_allclose(rows, 2 * (8 + np.arange(48)) + 0.5, atol=1)


def test_views_are_all_crops_of_a_clip_then_those_of_the_next():
  clip = EvalClip(2, 4, stride=1, clips=3, crops=3)
  frames = np.zeros((6, 4, 8, 3), int)
  frames[..., 0] = np.arange(6)[:, None, None]  # which frame
  frames[..., 1] = np.arange(8)  # which column
  views = clip.split(frames)
  assert views.shape == (clip.views, 2, 4, 4, 3) == (9, 2, 4, 4, 3)
  times, starts = views[:, :, 0, 0, 0].tolist(), views[:, 0, 0, 0, 1].tolist()
  assert times == [[0, 1]] * 3 + [[2, 3]] * 3 + [[4, 5]] * 3
  assert starts == [0, 2, 4] * 3


def test_one_crop_is_the_central_one_and_what_a_stream_sees():
  for clip in (EvalClip(2, 48, short_side=64, stride=1, clips=k) for k in (1, 3)):
    cut = clip.plan(video())
    assert (cut.box, cut.size) == (clip.frame(video()).box, (48, 48))
    frames = np.zeros((2 * clip.clips, 48, 48, 3), np.uint8)
    assert clip.split(frames).shape == (clip.clips, 2, 48, 48, 3)
  three = EvalClip(2, 48, short_side=64, stride=1, crops=3)
  assert three.frame(video()) == clip.frame(video())


@pytest.mark.parametrize(('width', 'height'), [(340, 256), (90, 160), (160, 160)])
def test_short_sides_are_drawn_from_their_whole_range(width, height):
  info, clip = (
    video(width=width, height=height),
    TrainClip(2, 16, stride=1, short_side=(18, 23)),
  )
  plans = [clip.plan(info, rng) for rng in rngs(400)]
  assert plans == [clip.plan(info, rng) for rng in rngs(400)]
  boxes = np.array([plan.box for plan in plans])
  assert (boxes[:, 2] == boxes[:, 3]).all()  # never distorted
  short_sides = min(width, height) * 16 / boxes[:, 2]
  drawn, counts = np.unique(short_sides.round(6), return_counts=True)
  assert drawn.tolist() == [18, 19, 20, 21, 22, 23]
  assert counts.min() > 400 / 6 / 2
  room = np.array([width, height]) - boxes[:, 2:]
  places = boxes[:, :2] / room  # 0: left or top, 1: right or bottom
  assert (places.min(0) < 0.05).all()
  assert (places.max(0) > 0.95).all()
  assert places.min() >= 0
  assert places.max() <= 1
  assert abs(np.corrcoef(places.T)[0, 1]) < 0.2


def test_the_whole_short_side_can_be_the_crop():
  clip = TrainClip(2, 64, stride=1, short_side=(64, 64))
  for rng in rngs(20):
    left, top, wide, high = clip.plan(video(width=100, height=70), rng).box
    assert (top, wide, high) == (0, 70, 70)
    assert 0 <= left <= 30


@pytest.mark.parametrize(('width', 'height'), [(340, 256), (90, 160), (1000, 40), (8, 8)])
def test_train_boxes_lie_inside_and_keep_the_ranges(width, height):
  info = video(width=width, height=height)
  clip = TrainClip(2, 64, stride=1)
  fitted = 0
  for rng in rngs(300):
    left, top, wide, high = clip.plan(info, rng).box
    assert left >= 0
    assert top >= 0
    assert left + wide <= width + 1e-6
    assert top + high <= height + 1e-6
    assert 0.5 - 1e-6 <= wide / high <= 2 + 1e-6
    fitted += 0.08 - 1e-6 <= wide * high / (width * height) <= 1 + 1e-6
  assert fitted == 300 or width / height > 10  # a strip has no such box


def test_boxes_and_flips_vary_and_repeat():
  info, clip = video(), TrainClip(2, 64, stride=1, colour=0.4, autoaugment=True)
  plans = [clip.plan(info, rng) for rng in rngs(200)]
  assert plans == [clip.plan(info, rng) for rng in rngs(200)]
  shares = [p.box[2] * p.box[3] / (340 * 256) for p in plans]
  assert min(shares) < 0.15
  assert max(shares) > 0.8
  assert 60 < sum(p.flip for p in plans) < 140
  assert len({p.distortions for p in plans}) > 190
  still = TrainClip(2, 64, stride=1, flip=False)
  assert not any(still.plan(info, rng).flip for rng in rngs(50))
  assert still.plan(info, rngs(1)[0]).distortions == ()


@pytest.mark.parametrize(
  ('kind', 'arguments', 'words'),
  [
    (TrainClip, {}, 'exactly one of stride and fps'),
    (EvalClip, {'stride': 1, 'fps': 5}, 'exactly one of stride and fps'),
    (TrainClip, {'stride': 0}, 'stride is 0'),
    (TrainClip, {'frames': 0, 'stride': 1}, 'frames is 0'),
    (TrainClip, {'fps': 5, 'stride_jitter': 1}, 'needs stride'),
    (TrainClip, {'stride': 1, 'area': (0.5, 0.1)}, 'area'),
    (TrainClip, {'stride': 1, 'area': (0.5, 1.5)}, 'area'),
    (TrainClip, {'stride': 1, 'aspect': (0, 1)}, 'aspect'),
    (TrainClip, {'stride': 1, 'colour': 2}, 'colour'),
    (EvalClip, {'stride': 1, 'short_side': 32}, 'short_side=32'),
    (EvalClip, {'stride': 1, 'clips': 0}, 'clips'),
    (EvalClip, {'stride': 1, 'crops': 2}, 'crops is 2 .*1, 3'),
    (EvalClip, {'stride': 1, 'crops': 0}, 'crops'),
    (EvalClip, {'stride': 1, 'crops': 3.0}, r'crops is 3\.0 .*1, 3'),
    (EvalClip, {'stride': 1, 'crops': [3]}, r'crops is \[3\] .*1, 3'),
    (
      EvalClip,
      {'stride': 1, 'short_side': (182, 228)},
      r'short_side should be int, got \(182, 228\)',
    ),
    (
      TrainClip,
      {'stride': 1, 'short_side': (63, 80)},
      r'short_side is \(63, 80\); wanted at least size=64',
    ),
    (TrainClip, {'stride': 1, 'short_side': (80, 70)}, r'short_side is \(80, 70\); wanted .*least'),
    (TrainClip, {'stride': 1, 'short_side': (70, 80, 90)}, 'short_side'),
    (
      TrainClip,
      {'stride': 1, 'short_side': (70.5, 80)},
      r'short_side\[0\] should be int, got 70\.5',
    ),
    (TrainClip, {'stride': 1, 'short_side': 70}, 'short_side should be a list, got 70'),
    (
      TrainClip,
      {'stride': 1, 'short_side': (70, 80), 'area': (0.08, 1)},
      'another way to crop than area',
    ),
    (
      TrainClip,
      {'stride': 1, 'short_side': (70, 80), 'aspect': (1, 1)},
      'leave these two out',
    ),
  ],
)
def test_contradictions_are_refused(kind, arguments, words):
  with pytest.raises(ValueError, match=words):
    kind(**{'frames': 4, 'size': 64, **arguments})


def test_lists_of_a_config_are_as_good_as_tuples():
  clip = TrainClip(2, 64, stride=1, area=[0.2, 1], aspect=[1, 1])
  assert clip == TrainClip(2, 64, stride=1, area=(0.2, 1), aspect=(1, 1))
  assert math.isfinite(hash(clip))
  clip = TrainClip(2, 64, stride=1, short_side=[70, 80])
  assert clip == TrainClip(2, 64, stride=1, short_side=(70, 80))
  assert math.isfinite(hash(clip))
