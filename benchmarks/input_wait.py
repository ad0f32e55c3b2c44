"""Share of its time that a device waits for input, by the form that the data has.

    python benchmarks/input_wait.py [--step-ms=100] [--batch-size=8] [--workers=2]

Runs the training loop with a device that only sleeps for each step, as a GPU would leave the cores
to the input: the processes that decode, their hand-over, the loop and its log are the real ones.
Copying a batch to the device is left out. The same videos of ten seconds are read in three forms:
`files` as cameras and sites give them, `built` as `movinet build-data --short-side` encodes them
anew (H.264, a key frame every 12 frames), `pictures` as folders of JPEG files.

Prints a JSON line for each form. `clips_per_sec` is with a step of no length, the most that the
input gives. `core_ms` is what a clip costs on a core, in all processes of the run; `cores` is how
many of them the run got. On a machine that others use, two cores would give 2000 / core_ms.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from multiprocessing import active_children

import av
import numpy as np

from movinet_jax import data
from movinet_jax.data import transcode
from movinet_jax.data.source import Record, make_source
from movinet_jax.train import loop

_VIDEOS = pathlib.Path(__file__).parent.parent / 'tests' / 'fixtures' / 'videos'
_NAMES = ('long_test_h264', 'arm_wrestling_h264', 'multi_person_h264', 'nasa_13013_h264')
FORMS = ('files', 'built', 'pictures')
_TICKS = os.sysconf('SC_CLK_TCK')


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--step-ms', type=float, default=100)
  parser.add_argument('--batch-size', type=int, default=8)
  parser.add_argument('--frames', type=int, default=16)
  parser.add_argument('--stride', type=int, default=5)
  parser.add_argument('--size', type=int, default=172)
  parser.add_argument('--workers', type=int, default=2)
  parser.add_argument('--steps', type=int, default=60)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--forms', nargs='+', choices=FORMS, default=FORMS)
  args = parser.parse_args(argv)
  with tempfile.TemporaryDirectory() as folder:
    sources = {form: _make_form(form, pathlib.Path(folder)) for form in args.forms}
    rows = {form: [] for form in args.forms}
    for _ in range(args.rounds):  # in turns, so that what else runs slows all
      for form, source in sources.items():
        rows[form].append((_run(args, source, 0.0), _run(args, source, args.step_ms / 1e3)))
  for form in args.forms:
    print(json.dumps(_sum_up(args, form, rows[form])))
  return 0


def _sum_up(args, form: str, rows: list) -> dict:
  fastest, stepped = zip(*rows, strict=True)
  shares = [round(one['share'], 3) for one in stepped]
  both = [one for pair in rows for one in pair]
  return {
    'benchmark': 'input_wait',
    'form': form,
    'clip': f'{args.frames}x{args.size} stride {args.stride}',
    'workers': args.workers,
    'step_ms': args.step_ms,
    'clips_wanted_per_sec': round(args.batch_size / args.step_ms * 1e3, 1),
    'input_wait_share': sorted(shares),
    'clips_per_sec': round(statistics.median(one['clips_per_sec'] for one in fastest), 1),
    'core_ms': round(statistics.median(one['core_ms'] for one in both), 1),
    'cores': [
      round(statistics.median(one['cores'] for one in some), 2) for some in (fastest, stepped)
    ],
    'load': round(os.getloadavg()[0], 1),
  }


def _make_form(form: str, folder: pathlib.Path) -> data.Source:
  records = []
  for number, name in enumerate(_NAMES):
    video = str(_VIDEOS / f'{name}.mp4')
    if form != 'files':
      small = str(folder / f'{form}_{name}.mp4')
      transcode.write_cut(video, small)
      video = pathlib.Path(small).read_bytes()
    if form == 'pictures':
      video = data.FrameFolder(_write_pictures(small, folder / name), data.probe(small).fps)
    # A thousand records in all: the order of a handful takes grain milliseconds a clip.
    records += [Record(video, number, f'{name}_{copy}') for copy in range(250)]
  return make_source(records, _NAMES)


def _write_pictures(video: str, folder: pathlib.Path) -> str:
  folder.mkdir()
  with av.open(video) as container:
    for number, frame in enumerate(container.decode(video=0), 1):
      frame.to_image().save(folder / f'{number:06d}.jpg', quality=90)
  return str(folder)


class SleepingDevice:
  """Computes one step after the other, by waiting; a step begins when the one before has ended."""

  def __init__(self, step_secs: float):
    self._step_secs, self._ends = step_secs, 0.0

  def step(self, state, batch):
    del batch
    self._ends = max(self._ends, time.perf_counter()) + self._step_secs
    return State(state.step + 1), {'loss': np.float32(0), 'finite': _Later(self._ends)}


class State:
  def __init__(self, step: int):
    self.step = step


class _Later:
  """A flag that is known when its step has ended."""

  def __init__(self, ends: float):
    self._ends = ends

  def block_until_ready(self):
    time.sleep(max(0.0, self._ends - time.perf_counter()))

  def __bool__(self):
    self.block_until_ready()
    return True


class _Nothing:
  """Saves nothing, and keeps what the loop logs."""

  directory = ''

  def __init__(self):
    self.rows, self.times = [], []

  def write(self, number, values):
    self.rows.append(values)
    self.times.append((time.perf_counter(), _count_core_secs()))

  def latest_step(self): ...
  def note_save(self, number): ...
  def save(self, state, info): ...
  def check(self): ...
  def wait(self): ...
  def flush(self): ...


def _run(args, source, step_secs: float) -> dict:
  """Half the steps are to get going; the other half is measured."""
  seen = _Nothing()
  with data.make_batches(
    source,
    data.TrainClip(args.frames, args.size, stride=args.stride),
    batch_size=args.batch_size,
    train=True,
    workers=args.workers,
  ) as batches:
    loop.run(
      SleepingDevice(step_secs).step,
      State(0),
      batches,
      total_steps=args.steps,
      checkpointer=seen,
      writer=seen,
      log_every=args.steps // 2,
      save_every=0,
      progress=False,
    )
  (began, core_before), (ended, core_after) = seen.times[:2]
  clips = (args.steps - args.steps // 2) * args.batch_size
  core_secs = core_after - core_before
  return {
    'share': seen.rows[1]['input_wait_share'],
    'clips_per_sec': clips / (ended - began),
    'core_ms': 1e3 * core_secs / clips,
    'cores': core_secs / (ended - began),
  }


def _count_core_secs() -> float:
  """Of this process and its workers, so far."""
  pids = [os.getpid(), *(child.pid for child in active_children())]
  stats = [pathlib.Path(f'/proc/{pid}/stat').read_text() for pid in pids]
  fields = [stat.rpartition(')')[2].split() for stat in stats]
  return sum(int(field[11]) + int(field[12]) for field in fields) / _TICKS


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
