"""Searches of two-stream networks for what is known beforehand.

The videos are mosaics of 16 tiles. Each tile changes its color between red and blue every 4 frames.
Its grating jumps left or right for one frame. The sparse stream sees every 8th frame: there a tile
always has the same color, and its grating the same place. The dense stream sees the jump.

The task of both is made to have no other solution than a fusion behind a kernel that sees time.
Gratings jump in frame 6, or 4 frames later in half of the videos. A video of one class, 4 frames
later, is one of the other class, because all colors have changed. The dense stream takes the mean
over all frames, so it cannot tell them apart. No grating jumps near the ends of a video, where the
padding would tell the time. Gratings rest for 3 frames around each sparse frame, so the stem, which
sees 3 frames, sees no jump there.
"""

import functools

import numpy as np
import pytest

from nas.algorithms.parsec import Parsec
from nas.objective import Objective
from nas.oneshot import progressive
from nas.oneshot.supernets.tsnet import Supernet
from nas.spaces import tsnet
from tests.nas.oneshot import planted

pytestmark = pytest.mark.slow

CLIP = FRAMES, SIZE, _ = 24, 32, 32
GRID, TILE = 4, 8  # tiles a side, pixels a side
PERIOD = 8  # pixels of a grating
GROUPS = 2
SPACE = {
  **{'sparse': ((16,),), 'dense': ((8,),), 'depths': ((1,) * GROUPS,), 'stems': (8, 8)},
  **{'expansions': (2.0,), 'times': (1, 3), 'sizes': (3,), 'places': (), 'hidden': 32},
  # A convolution or a stack behind kernels of one frame would see motion by itself.
  'fusions': ('none', 'sample'),
  # The head's windows are as large as the maps: 8 places a side. With smaller ones the hidden
  # layer would see what both streams have at the same place.
  **{'frames': FRAMES, 'resolution': 256, 'frame_stride': 1},
}
OPTIMIZER, RATE = {'name': 'adamw', 'weight_decay': 0.0, 'clip_norm': 1.0}, 3e-3
SEARCHED = ('dense:1/*',)  # all frames of the sparse stream are alike

seeds = pytest.mark.parametrize('seed', range(2))


@functools.cache
def make_task() -> planted.Task:
  net = Supernet(tsnet.make_space(**SPACE), 2)
  objective = Objective(net.make_cost_table(clip=CLIP), 'hinge')
  return planted.make_task(net, objective, Parsec, OPTIMIZER)


def make_mosaics(rng, red, way, late) -> np.ndarray:
  """Videos of tiles.

  Args:
    red: [N, tiles], 1 for tiles that are red in sparse frames, -1 for blue ones.
    way: [N, tiles], 1 for gratings that jump right, -1 for left.
    late: [N, 1], 1 where gratings jump in frame 10, 0 where in frame 6.
  """
  frames = np.arange(FRAMES)
  color = red[..., None] * np.where((frames + 2) // 4 % 2, -1, 1)
  # A grating begins at one of two places, half its period apart, and jumps by a quarter. So no
  # frame alone tells the way.
  start = rng.integers(2, size=(*red.shape, 1)) / 2
  phase = start - way[..., None] * (frames == 6 + 4 * late[..., None]) / 4
  waves = np.cos(2 * np.pi * (np.arange(TILE) / PERIOD + phase[..., None]))
  gray, tint = 85 * lay(waves[..., None, :]), 40 * lay(color[..., None, None])
  video = 128 + np.stack([gray + tint, gray, gray - tint], -1, dtype=np.float32)
  video += 5 * rng.standard_normal(video.shape, np.float32)
  return np.clip(video, 0, 255).astype(np.uint8)


def lay(tiles) -> np.ndarray:
  """[N, tiles, T, H, W] -> [N, T, SIZE, SIZE]; H and W may be 1 where a tile has one color."""
  count = len(tiles)
  tiles = np.broadcast_to(tiles, (count, GRID**2, FRAMES, TILE, TILE))
  tiles = tiles.reshape(count, GRID, GRID, FRAMES, TILE, TILE)
  return tiles.transpose(0, 3, 1, 4, 2, 5).reshape(count, FRAMES, SIZE, SIZE)


def draw_red(rng, count: int, reds) -> np.ndarray:
  """`red` of make_mosaics, where so many tiles [N] are red."""
  ordered = np.where(np.arange(GRID**2) < np.reshape(reds, (-1, 1)), 1, -1)
  return rng.permuted(np.broadcast_to(ordered, (count, GRID**2)), axis=1)


def make_joint(seed: int, split: str, agree: float = 0.3):
  """Red tiles all jump one way, which is the class. Blue ones all jump the same or the other way.

  Where all tiles agree, motion alone tells the class. A search learns motion from such videos
  first; without them none has learnt anything. They are left out of the test. There half of
  the tiles jump right, and neither color nor motion says anything alone.

  Args:
    agree: share of videos in which all tiles jump the same way.
  """
  rng = np.random.default_rng((seed, list(planted.POOL).index(split)))
  label = np.arange(planted.POOL[split]) % 2
  way = 2 * label[:, None] - 1
  red = draw_red(rng, len(label), GRID**2 // 2)
  agreed = (rng.uniform(size=way.shape) < agree) & (split != 'test')
  return make_mosaics(
    rng, red, np.where((red > 0) | agreed, way, -way), rng.integers(2, size=(len(label), 1))
  ), label


def make_color(seed: int, split: str):
  """Most tiles are red, or most are blue; that is the class. Gratings jump at random."""
  rng = np.random.default_rng((seed, list(planted.POOL).index(split)))
  label = np.arange(planted.POOL[split]) % 2
  red = draw_red(rng, len(label), np.where(label, 11, 5))
  way = rng.choice([-1, 1], red.shape)
  return make_mosaics(rng, red, way, rng.integers(2, size=(len(label), 1))), label


def find_numbers(net):
  """[groups] each, the numbers of the dense stream's temporal kernels and of fusions."""
  times = [net.space.number(1, f'groups/{i}/time') for i in range(GROUPS)]
  return np.array(times), np.array([net.space.fusion_number(i) for i in range(GROUPS)])


@seeds
def test_color_and_motion_at_one_place_need_a_fusion_and_time(seed):
  task = make_task()
  net, cost = task.net, task.objective.cost
  held = progressive.hold(net.space.space, SEARCHED, None, {'dense': 1})
  times, fusions = find_numbers(net)
  # The cheapest network that can tell the class: time in the last group, and a fusion behind it.
  cheapest = np.where(held == progressive.OPEN, 0, held)
  cheapest[[times[-1], fusions[-1]]] = 1
  lessons = [(functools.partial(make_joint, agree=1.0), 100), (make_joint, 450)]
  given = {'beta': -1.0, 'target': cost.count(cheapest), 'policy_delay': 0.65}
  found = planted.search(task, lessons, seed, held=held, learning_rate=RATE, **given)
  assert found.choices[fusions].max() == 1
  assert found.probabilities[fusions, 1].max() > 0.8
  assert found.choices[times].max() == 1
  assert found.probabilities[times, 1].max() > 0.8
  assert found.ratio <= 1.05
  assert found.score(found.choices) > 0.9
  for numbers in (fusions, times):
    without = found.choices.copy()
    without[numbers] = 0
    assert found.score(without) < 0.6  # chance is 1/2


@seeds
def test_cost_removes_fusions_of_motion_that_tells_nothing(seed):
  """Color is seen in the sparse frames alone: the dense stream's mean over frames has none."""
  task = make_task()
  net, cost = task.net, task.objective.cost
  held = progressive.hold(net.space.space, SEARCHED, None, {'dense': 1})
  target = cost.hold(held).bounds[0]
  given = {'beta': -5.0, 'target': target, 'learning_rate': RATE}
  found = planted.search(task, [(make_color, 200)], seed, held=held, **given)
  _, fusions = find_numbers(net)
  assert found.choices[net.space.dense_number] == 1
  assert found.probabilities[fusions, 0].min() > 0.8  # of 'none'; a search begins with 1/2
  assert found.ratio <= 1.05
  assert found.score(found.choices) > 0.9
