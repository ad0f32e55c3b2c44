"""`movinet train` in real processes: killed, stopped, resumed, refused."""

import json
import random
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from launch import parts
from launch.verbs import train
from movinet_jax.train import checkpoint

LACKING = {
  **{'seed': 0, 'batch_size': 1, 'eval_batch_size': 1, 'model': {'name': 'movinet/a0'}},
  **{'data': {'train': {}}, 'clip': {'train': {}, 'eval': {}}, 'loader': {}},
  **{'optimizer': {}, 'loss': {'name': 'softmax'}, 'loop': {'log_every': 2}},
}


def read_run(workdir):
  return checkpoint.load_variables(workdir / parts.CHECKPOINTS)


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


def test_a_config_that_lacks_something_says_what(tmp_path):
  with pytest.raises(ValueError, match=r"the config has no 'loop\.total_steps'"):
    train.train(LACKING, str(tmp_path / 'run'))


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'checkpoints.best_metric': 'top2'}, "best_metric 'top2'; did you mean 'top1'"),
    ({'loss.name': 'sigmoid'}, "one label, for which loss.name is 'softmax'"),
    ({'train.subclip': 2}, "takes no 'subclip' of a config; did you mean 'subclips'"),
    ({'loop.log_evry': 2}, "unknown key of loop 'log_evry'; did you mean 'log_every'"),
    ({'loader.seed': 2}, "unknown key of loader 'seed'"),
    ({'optimizer.total_steps': 2}, "make_optimizer takes no 'total_steps'"),
    ({'eval_batch_size': 0}, 'eval_batch_size is 0'),
    ({'model.dropout': 1.5}, r'dropout is a rate in \[0, 1\), got 1.5'),
    ({'model.dtype': 'bf16'}, "dtype 'bf16'; did you mean 'bfloat16'"),
  ],
)
def test_mistakes_are_found_before_the_first_step(changed, message, train_command, tmp_path):
  _, *arguments = train_command(tmp_path / 'run', **changed)
  with pytest.raises(ValueError, match=message):
    train.main(arguments)
  assert not (tmp_path / 'run').exists()
