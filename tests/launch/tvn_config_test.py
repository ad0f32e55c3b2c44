"""The shipped config of Tiny Video Networks trains, on small pictures."""

import json

import pytest

from launch.verbs import train
from movinet_jax.data import motion


@pytest.mark.slow  # to compile
def test_a_tiny_video_network_is_trained(tmp_path):
  videos, run = tmp_path / 'videos', tmp_path / 'run'
  motion.write_motion(str(videos), videos_per_class=4, frames=8, size=24, seed=1)
  (videos / 'train').rename(videos / 'training')
  (videos / 'val').rename(videos / 'validation')
  small = {
    **{f'data.{split}.root': videos for split in ('train', 'eval')},
    **{f'clip.{split}.size': 16 for split in ('train', 'eval')},
    **{'batch_size': 4, 'eval_batch_size': 4, 'loader.workers': 0},
    **{'loop.total_steps': 2, 'loop.log_every': 1, 'loop.eval_every': 2},
    **{'optimizer.warmup_steps': 1, 'model.form': 'native'},  # compiles faster
  }
  given = [f'--config.{key}={value}' for key, value in small.items()]
  command = ['--config=configs/tvn/moments.py:m2', f'--workdir={run}', *given]
  assert train.main(command) == 0
  rows = [json.loads(row) for row in (run / 'metrics.jsonl').read_text().splitlines()]
  assert any('eval/top1' in row for row in rows), rows
