"""Two processes on one machine: they stop together, and each video counts once."""

import itertools
import signal
import socket
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from movinet_jax.train import loop
from movinet_jax.train.checkpoint import Checkpointer, count_steps
from movinet_jax.train.evaluation import evaluate, make_predict
from movinet_jax.train.losses import make_loss
from movinet_jax.train.mesh import make_mesh, replicated, shard_step
from movinet_jax.train.optimizers import make_optimizer
from movinet_jax.train.state import make_state
from movinet_jax.train.steps import make_eval_step, make_train_step
from movinet_jax.train.workdir import claim_together
from movinet_jax.train.writers import Writer
from tests.train.toy import Toy, make_batch, make_variables, start


def _main(workdir, port, rank):
  jax.distributed.initialize(f'localhost:{port}', 2, rank)
  print('CLAIMED', claim_together(workdir, {'seed': 0}), flush=True)
  model, mesh = Toy(), make_mesh()
  tx = make_optimizer(batch_size=8, total_steps=10_000)
  step = shard_step(make_train_step(model, tx, make_loss(), seed=0), mesh)
  state = jax.device_put(make_state(make_variables(), tx), replicated(mesh))
  # The second process lacks the last video; its row is padding.
  batch = make_batch(rank, clips=4)
  batch['mask'][-1] = 1 - rank
  predict = make_predict(make_eval_step(model), mesh)
  found = evaluate(predict, make_variables(), [batch], expected=8)
  print('FOUND', found.evaluated, found.missing, found.metrics['loss'], flush=True)
  with (
    Checkpointer(workdir / 'checkpoints') as checkpointer,
    Writer(workdir, tensorboard=False, stdout=False) as writer,
  ):
    if checkpointer.latest_step() is not None:
      state, _ = checkpointer.restore(state)
      print('RESUMED', int(state.step), flush=True)
      return
    try:
      loop.run(
        step, state, _batches(rank), total_steps=10_000, log_every=1, save_every=0,
        checkpointer=checkpointer, writer=writer,
      )  # fmt: skip
    except loop.Preempted as stop:
      print('STOPPED', stop.step, flush=True)


def _batches(rank):
  for number in itertools.count():
    time.sleep(0.01)
    yield make_batch(2 * number + rank, clips=4)


def _start(workdir):
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  return [start('tests.train.processes_test', workdir, port, rank) for rank in range(2)]


def _read(processes):
  outputs = [p.communicate(timeout=120)[0] for p in processes]
  assert [p.returncode for p in processes] == [0, 0], '\n'.join(outputs)
  words = [[line.split() for line in output.splitlines()] for output in outputs]
  return [{line[0]: line[1:] for line in lines if line} for lines in words]


@pytest.mark.slow
def test_two_processes(tmp_path):
  processes = _start(tmp_path)
  lines, until = tmp_path / 'metrics.jsonl', time.monotonic() + 90
  try:
    while not lines.exists() or len(lines.read_text().splitlines()) < 3:
      assert all(p.poll() is None for p in processes), processes[0].communicate()
      assert time.monotonic() < until
      time.sleep(0.02)
    # To one of them only.
    processes[1].send_signal(signal.SIGTERM)
    first, second = _read(processes)
  finally:
    for process in processes:
      process.kill()
  assert first['STOPPED'] == second['STOPPED']
  assert count_steps(tmp_path / 'checkpoints') == [int(first['STOPPED'][0])]
  # Both know the whole result, and it is that of one process with all videos.
  batches = [make_batch(rank, clips=4) for rank in range(2)]
  batches[1]['mask'][-1] = 0
  alone = evaluate(make_predict(make_eval_step(Toy())), make_variables(), batches)
  assert first['FOUND'] == second['FOUND']
  assert first['FOUND'][:2] == ['7', '1']
  np.testing.assert_allclose(float(first['FOUND'][2]), alone.metrics['loss'], rtol=1e-5)
  again = _read(_start(tmp_path))
  assert [found['CLAIMED'] for found in (first, second, *again)] == [
    ['False'], ['False'], ['True'], ['True']
  ]  # fmt: skip
  assert [found['RESUMED'] for found in again] == [first['STOPPED']] * 2


if __name__ == '__main__':
  _main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
