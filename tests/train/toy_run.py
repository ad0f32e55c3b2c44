"""Trains the toy in a workdir: the process that tests kill, stop and start again.

python toy_run.py WORKDIR TOTAL_STEPS [PAUSE_SECS]
"""

import itertools
import os
import sys
import time
from pathlib import Path

import jax
import numpy as np

from movinet_jax.train import loop
from movinet_jax.train.checkpoint import Checkpointer
from movinet_jax.train.losses import make_loss
from movinet_jax.train.mesh import make_mesh, shard_step
from movinet_jax.train.optimizers import make_optimizer
from movinet_jax.train.state import make_state
from movinet_jax.train.steps import make_train_step
from movinet_jax.train.workdir import claim_workdir
from movinet_jax.train.writers import Writer
from tests.train.toy import Toy, make_batch, make_variables


def batches_from(start, pause_secs=0.0):
  for number in itertools.count(start):
    time.sleep(pause_secs)
    yield make_batch(number)


def train(workdir, total_steps, pause_secs=0.0):
  model = Toy(dropout=0.3)
  tx = make_optimizer(batch_size=8, total_steps=100, warmup_steps=3)
  step = shard_step(make_train_step(model, tx, make_loss(), seed=1, subclips=2), make_mesh())
  state = make_state(make_variables(model), tx)
  resuming = claim_workdir(workdir, {'seed': 1, 'total_steps': total_steps})
  with (
    Checkpointer(workdir / 'checkpoints', keep=2) as checkpointer,
    Writer(workdir, tensorboard=False, stdout=False) as writer,
  ):
    if resuming and checkpointer.latest_step() is not None:
      state, meta = checkpointer.restore(state)
      assert meta['position'] == {'batches': int(state.step)}
    return loop.run(
      step,
      state,
      batches_from(int(state.step), pause_secs),
      total_steps=total_steps,
      checkpointer=checkpointer,
      writer=writer,
      log_every=1,
      save_every=3,
    )


def main():
  workdir, total_steps = Path(sys.argv[1]), int(sys.argv[2])
  try:
    state = train(workdir, total_steps, float((sys.argv[3:] or [0])[0]))
  except loop.Preempted as stop:
    print(stop)
    sys.exit(os.EX_TEMPFAIL)
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
  np.savez(workdir / 'final.npz', *leaves)


if __name__ == '__main__':
  main()
