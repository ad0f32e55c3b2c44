import errno
import json

import pytest

from movinet_jax.train import writers
from movinet_jax.train.writers import Writer


def _read(folder):
  return [json.loads(x) for x in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_lines_are_strict_json_and_stdout_is_readable(tmp_path, capsys):
  with Writer(tmp_path, tensorboard=False) as writer:
    writer.write(3, {'loss': 1.25, 'mAP': float('nan')})
  assert _read(tmp_path) == [{'step': 3, 'loss': 1.25, 'mAP': None}]
  assert 'NaN' not in (tmp_path / 'metrics.jsonl').read_text()
  assert capsys.readouterr().out == 'step 3  loss 1.25  mAP nan\n'


def test_a_torn_line_does_not_spoil_the_next(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
  with Writer(tmp_path, tensorboard=False, stdout=False) as writer:
    writer.write(2, {'loss': 1.0})
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(lines[0])['step'] == 1
  assert json.loads(lines[2]) == {'step': 2, 'loss': 1.0}


def test_two_runs_do_not_write_in_one_place(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  with Writer(tmp_path, tensorboard=False, stdout=False) as writer:
    with pytest.raises(BlockingIOError, match='another run is writing there'):
      Writer(tmp_path, tensorboard=False)
    writer.write(2, {'loss': 1.0})
  with Writer(tmp_path, tensorboard=False, stdout=False) as writer:
    writer.write(3, {'loss': 1.0})
  assert [row['step'] for row in _read(tmp_path)] == [1, 2, 3]


def test_a_file_system_without_locks_is_fine(tmp_path, monkeypatch):
  def lock(*arguments):
    raise OSError(errno.ENOLCK, 'no locks')

  monkeypatch.setattr(writers.fcntl, 'flock', lock)
  with Writer(tmp_path, tensorboard=False, stdout=False) as writer:
    writer.write(2, {'loss': 1.0})
  assert len(_read(tmp_path)) == 1


@pytest.mark.slow
def test_tensorboard_reads_back(tmp_path):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
  from tensorboard.util.tensor_util import make_ndarray

  with Writer(tmp_path, stdout=False) as writer:
    writer.write(1, {'loss': 2.0})
    writer.write(2, {'loss': 1.0})
  events = EventAccumulator(str(tmp_path / 'tensorboard')).Reload()
  values = [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors('loss')]
  assert values == [(1, 2.0), (2, 1.0)]
