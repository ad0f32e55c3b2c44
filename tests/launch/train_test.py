"""`movinet train` in real processes: killed, stopped, resumed, refused."""

import json
import random
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from launch.runs import training
from launch.verbs import train
from movinet_jax.train import checkpoint
from movinet_jax.train.workdir import CHECKPOINTS

LACKING = {
  **{'seed': 0, 'batch_size': 1, 'eval_batch_size': 1, 'model': {'name': 'movinet/a0'}},
  **{'data': {'train': {}}, 'loader': {}},
  'clip': {split: {'frames': 1, 'size': 8, 'stride': 1} for split in ('train', 'eval')},
  **{'optimizer': {}, 'loss': {'name': 'softmax'}, 'loop': {'log_every': 2}},
}


def read_run(workdir):
  return checkpoint.load_variables(workdir / CHECKPOINTS)


def assert_same_bits(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


def read_steps(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_killed_anywhere_and_resumed_equals_never_stopped(
  trained, train_command, start_movinet, run_movinet, tmp_path
):
  """SIGKILL at random moments: the same command ends with the same bits."""
  draw = random.Random(0)
  command = train_command(tmp_path)
  for _ in range(3):
    process = start_movinet(command)
    time.sleep(draw.uniform(4, 12))
    process.send_signal(signal.SIGKILL)
    process.communicate()
  code, output = run_movinet(command)
  assert code == 0, output
  assert_same_bits(read_run(tmp_path)[0], read_run(trained)[0])


@pytest.mark.slow
def test_sigterm_saves_and_says_retry(train_command, start_movinet, tmp_path):
  command = train_command(tmp_path, **{'loop.total_steps': 100_000})
  process = start_movinet(command)
  until = time.monotonic() + 120
  while not (tmp_path / 'metrics.jsonl').exists() or not read_steps(tmp_path):
    assert time.monotonic() < until
    assert process.poll() is None, process.communicate()
    time.sleep(0.2)
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 75, output
  step = read_run(tmp_path)[1]['step']
  assert f'after step {step}' in output


def test_what_a_run_leaves(trained, motion_videos):
  meta = read_run(trained)[1]
  assert meta['step'] == 6
  assert meta['labels'] == ['down', 'left', 'right', 'up']
  assert meta['preprocessing']['size'] == 16
  assert meta['position']['batches'] == 6
  assert meta['config']['data']['train']['root'] == motion_videos
  rows = read_steps(trained)
  assert [row['step'] for row in rows if 'loss' in row] == [2, 4, 6]
  assert {'examples_per_sec', 'input_wait_share'} <= set(rows[0])
  assert list((trained / 'tensorboard').iterdir())


def test_another_config_is_refused(trained, train_command, run_movinet):
  code, output = run_movinet(train_command(trained, seed=1))
  assert code == 2
  assert 'seed' in output
  assert '0' in output
  assert '1' in output


def test_other_data_is_refused(trained, train_command, motion_videos, run_movinet, tmp_path):
  """A video that vanished between stop and resume changes every later batch."""
  workdir, videos = tmp_path / 'run', tmp_path / 'videos'
  shutil.copytree(motion_videos, videos)
  roots = {f'data.{split}.root': videos for split in ('train', 'eval')}
  first = train_command(workdir, **roots)
  code, output = run_movinet(first)
  assert code == 0, output
  (videos / 'train' / 'up' / '00003.mp4').unlink()
  # The run is finished, so only the comparison of the data is left to fail.
  code, output = run_movinet(first)
  assert code == 2, output
  assert 'fingerprint' in output


def test_a_finished_run_is_left_as_it_is(trained, train_command, run_movinet):
  before = read_run(trained)[0]
  code, output = run_movinet(train_command(trained))
  assert code == 0, output
  assert_same_bits(read_run(trained)[0], before)


def test_a_run_from_before_the_warm_up_of_averages_resumes(trained, train_command):
  """Its config has no such key: as it is, or as null, which keeps the fixed decay."""
  assert 'ema_warmup' not in read_run(trained)[1]['config']['train']
  for changed in ({}, {'train.ema_warmup': None}):
    _, *arguments = train_command(trained, **changed)
    assert train.main(arguments) == 0
  _, *arguments = train_command(trained, **{'train.ema_warmup': False})
  with pytest.raises(ValueError, match=r'train\.ema_warmup: was absent, now false'):
    train.main(arguments)


def test_a_mended_command_begins_where_a_wrong_one_failed(
  train_command, run_movinet, motion_videos, tmp_path
):
  """Nothing was saved, so nothing is lost; and a manifest leaves its videos out."""
  manifest, total = tmp_path / 'bad.csv', {'loop.total_steps': 2}
  manifest.write_text('name,reason\nup/00000.mp4,truncated\n')
  workdir = tmp_path / 'run'
  code, output = run_movinet(train_command(workdir, init='nothing.npz', **total))
  assert (code, 'nothing.npz' in output) == (2, True), output
  mended = {**total, 'data.train.skip': manifest}
  code, output = run_movinet(train_command(workdir, **mended))
  assert code == 0, output
  position = read_run(workdir)[1]['position']
  assert position['records'] == 4 * 8 - 1
  code, output = run_movinet(train_command(workdir, **mended, **{'loader.threads': 2}))
  assert code == 0, output
  assert 'All 2 steps' in output
  assert 'changed:\n  loader.threads: was 1, now 2' in output


def test_pictures_smaller_than_the_clips_are_said(train_command, run_movinet, tmp_path):
  """The videos have 24 pixels; here clips are cut out of 64."""
  small = {'loop.total_steps': 1, 'optimizer.warmup_steps': 0, 'clip.eval.short_side': 64}
  code, output = run_movinet(train_command(tmp_path / 'run', **small))
  assert code == 0, output
  assert 'the pictures for eval have 24 pixels on their shorter side' in output
  assert 'for train' not in output


def test_a_config_that_lacks_something_says_what():
  with pytest.raises(ValueError, match=r"loop lacks the field 'total_steps'"):
    training.resolve(LACKING)


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'checkpoints.best_metric': 'top2'}, "best_metric 'top2'; did you mean 'top1'"),
    ({'loss.name': 'sigmoid'}, "one label, for which loss.name is 'softmax'"),
    ({'train.subclip': 2}, "train has no key 'subclip'; did you mean 'subclips'"),
    ({'loop.log_evry': 2}, "loop has no field 'log_evry'; did you mean 'log_every'"),
    ({'loader.seed': 2}, "loader has no field 'seed'"),
    ({'optimizer.total_steps': 2}, "optimizer has no key 'total_steps'"),
    ({'eval_batch_size': 0}, 'eval_batch_size is 0; wanted a whole number, 1 or more'),
    ({'loop.save_every': -1}, r'loop\.save_every is -1; wanted a whole number, 0 or more'),
    ({'loader.max_failed_share': -1}, r'loader\.max_failed_share is -1.*0 or more'),
    ({'train.accumulate': 0}, r'train\.accumulate is 0; wanted a whole number, 1 or more'),
    ({'train.ema_decay': 1.0}, r'train\.ema_decay is 1\.0; wanted .* less than 1'),
    ({'train.boundary': 'exat'}, r"train\.boundary is 'exat'; did you mean 'exact'"),
    ({'loss.label_smoothing': 1.0}, r'loss\.label_smoothing is 1\.0'),
    ({'optimizer.learning_rate': 0.0}, r'optimizer\.learning_rate is 0\.0'),
    ({'optimizer.clip_norm': 0.0}, r'optimizer\.clip_norm is 0\.0'),
    ({'optimizer.weight_decay': -1.0}, r'optimizer\.weight_decay is -1\.0'),
    ({'optimizer.warmup_steps': -1}, r'optimizer\.warmup_steps is -1'),
    ({'optimizer.warmup_steps': 10**6}, 'warmup_steps=1000000 and total_steps='),
    ({'checkpoints.keep': 0}, r'checkpoints\.keep is 0'),
    ({'checkpoints.best_mode': 'mix'}, r"checkpoints\.best_mode is 'mix'"),
    ({'clip.train.frames': 0}, r'clip\.train\.frames is 0'),
    ({'clip.train.stride': 0}, r'clip\.train\.stride is 0'),
    ({'clip.train.area': '(0.5, 1.5)'}, r'clip\.train\.area\[1\] is 1\.5'),
    ({'clip.train.area': '(0.5, 0.1)'}, r'clip\.train\.area is \(0\.5, 0\.1\)'),
    ({'clip.train.colour': 2.0}, r'clip\.train\.colour is 2\.0'),
    ({'clip.train.short_side': '(8, 9)'}, r'short_side'),
    ({'clip.eval.crops': 2}, r'clip\.eval\.crops is 2 .*1, 3'),
    ({'clip.eval.clips': 0}, r'clip\.eval\.clips is 0'),
    ({'model.norm_group': 0}, 'norm_group is 0; wanted a whole number, 1 or more'),
    ({'model.frames': 0}, 'frames is 0'),
    ({'model.gate': 'x'}, "gate is 'x'.*sigmoid"),
    ({'train.freeze': 3}, r'train\.freeze is 3 .*batch_norm'),
    ({'model.dropout': 1.5}, r'dropout is 1.5; wanted a number, 0 or more and less than 1'),
    ({'model.dtype': 'bf16'}, "dtype 'bf16'; did you mean 'bfloat16'"),
  ],
)
def test_mistakes_are_found_before_the_first_step(changed, message, train_command, tmp_path):
  _, *arguments = train_command(tmp_path / 'run', **changed)
  with pytest.raises(ValueError, match=message):
    train.main(arguments)
  assert not (tmp_path / 'run').exists()
