"""How fast each memory of a stream follows, how sure it is, and what it costs.

python benchmarks/stream_memory_kinds.py follow docs/stream_memory.png    about five minutes
python benchmarks/stream_memory_kinds.py cost                             about one minute

`follow` trains the quickstart's network on four classes of motion, in clips of 12 frames at
10 fps. Then it streams, for each pair of classes, 60 seconds of the one and 30 of the other. It
prints a JSON line for each memory: how often the class on screen was the most probable one
during the first class, and how many seconds into the second class it came to be. Given a path, it
draws the mean probability of the class on screen.

`cost` prints milliseconds a frame of A0-stream at 172², all memories in turns.
"""

import itertools
import json
import sys
import tempfile
from pathlib import Path

from launch.main import use_huge_pages

if __name__ == '__main__':
  use_huge_pages()  # as the command does, which starts anew: so before all else

import jax
import jax.numpy as jnp
import numpy as np
from timing import describe_machine

import movinet_jax as mj
from launch.config import load_config, merge_config
from launch.runs import training
from launch.runs.trained import load_trained
from movinet_jax import data, serve
from movinet_jax.data import motion
from movinet_jax.timing import time_in_turns

FPS, CLIP_SECS = 10, 1.2
FIRST_SECS, SECOND_SECS = 60, 30
WINDOWS_SECS = (1.2, 2.4, 4.8, 9.6)
HALF_LIVES_SECS = (0.6, 1.2, 2.4, 4.8)
DRAWN = {
  'exact': 'exact',
  'window:2.4': 'window of 2.4 s, twice a training clip',
  'forget:1.2': 'half-life of 1.2 s',
}


def make_memories() -> dict[str, serve.Memory]:
  return {
    'exact': serve.Exact(),
    **{f'window:{secs}': serve.Window(secs, FPS) for secs in WINDOWS_SECS},
    **{f'forget:{secs}': serve.Forgetting(secs, FPS) for secs in HALF_LIVES_SECS},
  }


def follow(picture: str | None = None):
  with tempfile.TemporaryDirectory() as folder:
    trained = _train(Path(folder))
    videos, first, second = _film(trained, Path(folder))
  print(json.dumps({'videos': len(videos), 'frames': videos.shape[1]}), flush=True)
  shown = {}
  for name, memory in make_memories().items():
    probabilities = _stream(trained, memory, videos)
    rows = np.arange(len(videos))
    change, clip = FIRST_SECS * FPS, round(CLIP_SECS * FPS)
    right = np.concatenate(
      [
        probabilities[:change, rows, first],
        probabilities[change:, rows, second],
      ]
    )
    shown[name] = right.mean(1)
    best = probabilities.argmax(-1)
    row = {'memory': name, **_measure(best, first, second), **describe_machine()}
    row['probability_in_first'] = round(float(right[clip:change].mean()), 3)
    print(json.dumps(row), flush=True)
  if picture:
    _draw(shown, picture)


def _train(folder: Path):
  """Trains the quickstart's network, as the quickstart does."""
  motion.write_motion(str(folder / 'videos'), videos_per_class=100, size=40, seed=0)
  root = {'root': str(folder / 'videos')}
  config = load_config('configs/movinet/quickstart.py').to_dict()
  config = merge_config(config, {'data': {'train': root, 'eval': root}})
  training.run(training.resolve(config), str(folder / 'run'))
  return load_trained(str(folder / 'run'))


def _film(trained, folder: Path):
  """Videos uint8 [P, T, H, W, 3] of all pairs of classes, and the labels of both parts."""
  clips = {}
  for split, secs in (('first', FIRST_SECS), ('second', SECOND_SECS)):
    kind = motion.Motion(splits=((split, 1.0),), frames=secs * FPS, size=40, seed=1)
    for name in trained.labels:
      path = str(folder / f'{split}-{name}.mp4')
      motion.write_video(path, motion.make_frames(kind, split, name, 0), FPS)
      frames = data.read_frames(path, choose=trained.clip.frame)
      clips[split, name] = np.stack([frame for _, frame in frames])
  pairs = list(itertools.permutations(range(len(trained.labels)), 2))
  videos = [
    np.concatenate([clips['first', trained.labels[a]], clips['second', trained.labels[b]]])
    for a, b in pairs
  ]
  return np.stack(videos), *np.array(pairs).T


def _stream(trained, memory, videos) -> np.ndarray:
  """Probabilities [T, P, N] of all videos side by side, frame by frame."""
  start = trained.model.init_state(len(videos), videos.shape[2:4])

  def run(video, state):
    return trained.model.apply(trained.variables, video, state)

  def step(carried, frame):
    logits, carried = memory.step(run, frame[:, None].astype(jnp.float32) / 255, carried)
    return carried, jax.nn.softmax(logits)

  frames = jnp.asarray(videos.swapaxes(0, 1))
  stream = jax.jit(lambda carried, frames: jax.lax.scan(step, carried, frames)[1])
  return np.asarray(stream(memory.begin(start), frames))


def _measure(best, first, second) -> dict:
  change, clip = FIRST_SECS * FPS, round(CLIP_SECS * FPS)
  follows = best[change:] == second
  # At the end of a video that it never comes to.
  secs = np.where(follows.any(0), follows.argmax(0), len(follows)) / FPS
  return {
    'right_in_first': round(float((best[clip:change] == first).mean()), 4),
    'right_in_last_10_secs': round(float(follows[-10 * FPS :].mean()), 4),
    'follows_after_secs_mean': round(float(secs.mean()), 2),
    'follows_after_secs_most': round(float(secs.max()), 2),
  }


def _draw(shown, path: str):
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(9, 4), layout='constrained')
  for name, label in DRAWN.items():
    axes.plot(np.arange(len(shown[name])) / FPS, shown[name], label=label, linewidth=1.5)
  axes.axvline(FIRST_SECS, color='gray', linestyle=':', linewidth=1)
  axes.annotate(
    'another class on screen',
    (FIRST_SECS, 0.5),
    (-6, 0),
    ha='right',
    va='center',
    textcoords='offset points',
    color='gray',
  )
  axes.set(xlabel='seconds', ylabel='probability of the class on screen', ylim=(0, 1))
  axes.set_xlim(0, FIRST_SECS + SECOND_SECS)
  axes.legend(loc='lower left')
  axes.spines[['top', 'right']].set_visible(False)
  figure.savefig(path, dpi=120)
  pyplot.close(figure)


def cost():
  size = 172
  model = mj.create('movinet/a0-stream')
  variables = mj.init(model, jax.random.key(0), (1, 1, size, size, 3))
  frame = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
  memories = {
    'exact': serve.Exact(),
    'window': serve.Window(10, 5),
    'forget': serve.Forgetting(5, 5),
  }
  lives = {
    name: serve.Live(model, variables, (size, size), memory=memory)
    for name, memory in memories.items()
  }
  times = time_in_turns({name: lambda one=one: one(frame) for name, one in lives.items()}, 200)
  row = {f'{name}_ms_per_frame': round(ms, 2) for name, ms in times.items()}
  print(json.dumps({'benchmark': 'stream_memory_kinds', **row, **describe_machine()}))


if __name__ == '__main__':
  {'follow': follow, 'cost': cost}[sys.argv[1]](*sys.argv[2:])
