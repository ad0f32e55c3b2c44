import json
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from movinet_jax.train import loop, waiting
from movinet_jax.train.checkpoint import Checkpointer, count_steps, read_meta
from movinet_jax.train.state import make_state
from movinet_jax.train.writers import Writer
from tests.train.toy import make_batch

TX = optax.sgd(1.0)


@jax.jit
def _step(state, batch):
  """The whole contract: any pure function will do."""
  total = batch['label'].sum().astype(jnp.float32) + 0 * batch['video'].sum()
  new = state.replace(step=state.step + 1, params={'w': state.params['w'] + jnp.nan_to_num(total)})
  return new, {'loss': total, 'finite': jnp.isfinite(total)}


def step(state, batch):
  return _step(state, {k: v for k, v in batch.items() if k != 'name'})


def _fresh():
  return make_state({'params': {'w': jnp.zeros(())}}, TX)


class Batches:
  """Numbers 1, 2, ...; a batch of NaN, a signal, or an end where told."""

  failed = 3

  def __init__(self, start=0, nan_at=None, end=None, on=None):
    self.number, self.nan_at, self.end, self.on = start, nan_at, end, on or {}

  def __iter__(self):
    return self

  def __next__(self):
    if self.number == self.end:
      raise StopIteration
    self.number += 1
    if self.number in self.on:
      self.on[self.number]()
    batch = make_batch(self.number, clips=2, frames=1, size=2)
    batch['video'] = batch['video'].astype(np.float32)
    batch['label'][:] = [self.number, 0]
    if self.number == self.nan_at:
      batch['video'][0] = np.nan
    return batch


def _run(tmp_path, batches, state=None, stepper=step, **options):
  options = {'total_steps': 10, 'log_every': 4, 'save_every': 3, **options}
  with (
    Checkpointer(tmp_path / 'c', best_metric='top1') as checkpointer,
    Writer(tmp_path, tensorboard=False, stdout=False) as writer,
  ):
    return loop.run(
      stepper,
      _fresh() if state is None else state,
      batches,
      checkpointer=checkpointer,
      writer=writer,
      **options,
    )


def _lines(tmp_path):
  return [json.loads(x) for x in (tmp_path / 'metrics.jsonl').read_text().splitlines()]


def test_time_order_and_output(tmp_path):
  seen = []

  def evaluate(state):
    seen.append(int(state.step))
    return {'top1': 0.9 if state.step == 5 else 0.5}

  state = _run(tmp_path, Batches(), evaluate=evaluate, eval_every=5, meta={'labels': ['a']})
  assert state.step == 10
  assert state.params['w'] == 55
  assert seen == [5, 10]
  assert count_steps(tmp_path / 'c') == [5, 6, 9, 10]
  meta = read_meta(tmp_path / 'c', 'best', 'top1')
  assert meta == {
    'step': 5, 'labels': ['a'], 'position': {'batches': 5}, 'metrics': {'top1': 0.9}
  }  # fmt: skip
  logged = [line for line in _lines(tmp_path) if 'loss' in line]
  # Means since the line before, not the last value.
  assert [(x['step'], x['loss']) for x in logged] == [(4, 2.5), (8, 6.5), (10, 9.5)]
  for line in logged:
    assert line['examples_per_sec'] > 0
    assert 0 <= line['input_wait_share'] <= 1
    assert line['failed_decodes'] == 3
  assert [x['step'] for x in _lines(tmp_path) if 'eval/top1' in x] == [5, 10]


def test_a_device_that_tells_its_memory_is_asked(tmp_path, monkeypatch):
  class Device:
    def __init__(self, **stats):
      self.memory_stats = lambda: stats or None

  _run(tmp_path / 'cpu', Batches(), log_every=10, save_every=0)
  assert 'device_peak_mb' not in _lines(tmp_path / 'cpu')[0]
  several = [Device(), Device(peak_bytes_in_use=3e6), Device(peak_bytes_in_use=7e6)]
  monkeypatch.setattr(loop.jax, 'local_devices', lambda: several)
  _run(tmp_path / 'a', Batches(), log_every=10, save_every=0)
  assert _lines(tmp_path / 'a')[0]['device_peak_mb'] == 7


def test_waiting_for_input_is_seen(tmp_path):
  slow = Batches(on=dict.fromkeys(range(1, 11), lambda: time.sleep(0.05)))
  _run(tmp_path / 'slow', slow, log_every=10, save_every=0)
  _run(tmp_path / 'fast', Batches(), log_every=10, save_every=0)
  shares = [_lines(tmp_path / x)[0]['input_wait_share'] for x in ('slow', 'fast')]
  assert shares[0] > 0.7
  assert shares[1] < shares[0]


class Device:
  """Computes steps one after the other, each for so long, while the host goes on."""

  def __init__(self, secs):
    self.secs, self.ends = secs, 0.0

  def step(self, state, batch):
    state, metrics = step(state, batch)
    self.ends = max(self.ends, time.perf_counter()) + self.secs
    return state, {**metrics, 'finite': Later(self.ends)}


class Later:
  def __init__(self, ends):
    self.ends = ends

  def block_until_ready(self):
    time.sleep(max(0.0, self.ends - time.perf_counter()))

  def __bool__(self):
    self.block_until_ready()
    return True


def test_a_wait_while_the_device_computes_costs_nothing(tmp_path):
  """The loop waits for 0.02 s of every step; the device only for what of it a step leaves."""
  for secs in (0.06, 0.005):
    slow = Batches(on=dict.fromkeys(range(1, 21), lambda: time.sleep(0.02)))
    stepper = Device(secs).step
    _run(tmp_path / str(secs), slow, stepper=stepper, total_steps=20, log_every=10, save_every=0)
  shares = [_lines(tmp_path / x)[1]['input_wait_share'] for x in ('0.06', '0.005')]
  assert shares[0] < 0.2
  assert shares[1] > 0.4


def test_a_run_that_waits_is_told_once_what_would_help(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(waiting, '_WINDOW_SECS', 0.05)
  monkeypatch.setattr(waiting, '_WINDOW_STEPS', 2)
  slow = Batches(on=dict.fromkeys(range(1, 11), lambda: time.sleep(0.05)))
  slow.advise = lambda step_secs: f'a step takes {step_secs:.0e} s'
  _run(tmp_path, slow, log_every=2, save_every=0)
  (note,) = capsys.readouterr().err.splitlines()
  assert note.startswith('Note: the devices waited for input in ')
  assert 'a step takes ' in note


def test_evaluation_does_not_count_as_training_time(tmp_path):
  slow = Batches(on=dict.fromkeys(range(1, 11), lambda: time.sleep(0.02)))

  def evaluate(state):
    time.sleep(0.5)
    return {'top1': 0.5}

  _run(tmp_path, slow, evaluate=evaluate, eval_every=5, log_every=10, save_every=0)
  line = next(x for x in _lines(tmp_path) if 'loss' in x)
  assert line['input_wait_share'] > 0.5  # 0.2 s, where 0.5 s of evaluation went by


@pytest.mark.parametrize(('nan_at', 'good'), [(2, None), (6, 3), (7, 6), (10, 9)])
def test_nan_stops_and_is_never_saved(tmp_path, nan_at, good):
  with pytest.raises(loop.NonFiniteLoss) as caught:
    _run(tmp_path, Batches(nan_at=nan_at))
  error = caught.value
  assert (error.step, error.last_good_step) == (nan_at, good)
  assert error.names == [f'{nan_at}_0.mp4', f'{nan_at}_1.mp4']
  assert f'{nan_at}_1.mp4' in str(error)
  assert max(count_steps(tmp_path / 'c'), default=None) == good
  if good is not None:
    assert f'c/{good}' in str(error)


def test_the_flag_is_read_one_step_late(monkeypatch):
  """The device always holds its next step before the host waits for the last one, and the next
  batch is asked for while both are computed."""
  order = []

  class Flag:
    def __init__(self, number):
      self.number = number

    def __bool__(self):
      order.append(('read', self.number))
      return True

  def stepper(state, batch):
    order.append(('step', len([x for x in order if x[0] == 'step']) + 1))
    state, metrics = step(state, batch)
    return state, {**metrics, 'finite': Flag(order[-1][1])}

  class NoSaves:
    directory = 'nowhere'

    def save(self, *args): ...
    def wait(self): ...
    def check(self): ...
    def latest_step(self): ...

  class NoWriter:
    def write(self, *args): ...
    def flush(self): ...

  monkeypatch.setattr(loop._Log, 'write', lambda self, number: {})
  loop.run(
    stepper,
    _fresh(),
    Batches(on={n: lambda n=n: order.append(('batch', n)) for n in range(1, 5)}),
    total_steps=4,
    log_every=0,
    save_every=0,
    checkpointer=NoSaves(),
    writer=NoWriter(),
  )
  assert order == [
    ('batch', 1), ('step', 1), ('batch', 2), ('step', 2), ('read', 1), ('batch', 3), ('step', 3),
    ('read', 2), ('batch', 4), ('step', 4), ('read', 3), ('read', 4),
  ]  # fmt: skip


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_finishes_the_step_saves_and_says_so(tmp_path, number):
  before = signal.getsignal(number)
  batches = Batches(on={5: lambda: os.kill(os.getpid(), number)})
  with pytest.raises(loop.Preempted) as caught:
    _run(tmp_path, batches)
  assert caught.value.step == 5
  assert count_steps(tmp_path / 'c') == [3, 5]
  assert _lines(tmp_path)[-1]['step'] == 5
  assert signal.getsignal(number) is before


def test_a_signal_after_a_nan_does_not_save_it(tmp_path):
  on = {5: lambda: os.kill(os.getpid(), signal.SIGTERM)}
  with pytest.raises(loop.NonFiniteLoss):
    _run(tmp_path, Batches(on=on, nan_at=5))
  assert count_steps(tmp_path / 'c') == [3]


def test_a_second_interrupt_stops_at_once(tmp_path):
  def twice():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)

  with pytest.raises(KeyboardInterrupt):
    _run(tmp_path, Batches(on={5: twice}))
  assert count_steps(tmp_path / 'c') == [3]


def test_runs_outside_the_main_thread(tmp_path):
  """A notebook's worker cannot take signals; it can train."""
  results = []
  thread = threading.Thread(target=lambda: results.append(_run(tmp_path, Batches())))
  thread.start()
  thread.join()
  assert results[0].step == 10


def test_a_finished_run_does_nothing_and_one_past_its_end_is_an_error(tmp_path):
  state = _fresh().replace(step=jnp.int32(10))
  assert _run(tmp_path, Batches(end=0), state).step == 10
  with pytest.raises(ValueError, match='has made 10 steps, but total_steps is 9'):
    _run(tmp_path, Batches(), state, total_steps=9)


def test_input_that_ends_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='ended before step 5 of 10'):
    _run(tmp_path, Batches(end=4))


def test_progress_only_on_request_or_a_terminal(tmp_path, capsys):
  _run(tmp_path / 'a', Batches())
  assert capsys.readouterr().err == ''
  _run(tmp_path / 'b', Batches(), progress=True)
  shown = capsys.readouterr().err
  assert '10/10' in shown
  assert 'loss=' in shown
  assert 'examples_per_sec=' in shown


def _go_on(tmp_path, **options):
  """Begins at the latest checkpoint, as a second command does."""
  with Checkpointer(tmp_path / 'c') as checkpointer:
    state, _ = checkpointer.restore(_fresh())
  return _run(tmp_path, Batches(int(state.step)), state, **options)


@pytest.mark.parametrize('at', [5, 10])
@pytest.mark.parametrize('stopped', [False, True])
def test_an_evaluation_that_does_not_end_loses_nothing(tmp_path, at, stopped):
  """It failed, or a signal came while it ran: the step is saved, and the same command
  evaluates it before it goes on."""
  evaluated = []

  def fail(state):
    if state.step < at:
      return {'top1': 0.1}
    if not stopped:
      raise ValueError('no such video')
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

  def evaluate(state):
    evaluated.append(int(state.step))
    return {'top1': 0.9}

  with pytest.raises(loop.Preempted if stopped else ValueError):
    _run(tmp_path, Batches(), evaluate=fail, eval_every=5)
  assert max(count_steps(tmp_path / 'c')) == at
  _go_on(tmp_path, evaluate=evaluate, eval_every=5)
  assert evaluated == list(range(at, 11, 5))
  assert read_meta(tmp_path / 'c', 10)['metrics'] == {'top1': 0.9}
  assert [x['step'] for x in _lines(tmp_path) if 'eval/top1' in x] == [5, 10]
  _go_on(tmp_path, evaluate=fail, eval_every=5)  # finished: not evaluated again


def test_a_signal_before_an_evaluation_does_not_wait_for_it(tmp_path):
  evaluated = []
  batches = Batches(on={10: lambda: os.kill(os.getpid(), signal.SIGTERM)})
  with pytest.raises(loop.Preempted):
    _run(tmp_path, batches, evaluate=evaluated.append)
  assert (evaluated, max(count_steps(tmp_path / 'c'))) == ([], 10)


def _step_with_aux(state, batch):
  state, metrics = step(state, batch)
  return state, {**metrics, 'aux': {'rows': batch['label'] * jnp.ones((3, 2))}}


def test_aux_goes_to_on_step_and_is_not_logged(tmp_path):
  rows = {}
  _run(
    tmp_path / 'a',
    Batches(),
    stepper=_step_with_aux,
    on_step=lambda number, aux: rows.update({number: np.asarray(aux['rows'])}),
  )
  assert list(rows) == list(range(1, 11))
  np.testing.assert_array_equal(rows[7], [[7, 0]] * 3)
  _run(tmp_path / 'b', Batches())
  logged, plain = (_lines(tmp_path / name) for name in 'ab')
  assert [list(line) for line in logged] == [list(line) for line in plain]
  # A step without aux, and a loop that nobody asks for it.
  seen = []
  _run(tmp_path / 'c', Batches(), total_steps=2, on_step=lambda *given: seen.append(given))
  assert seen == [(1, None), (2, None)]
  assert _run(tmp_path / 'd', Batches(), stepper=_step_with_aux).step == 10


def test_on_save_comes_before_each_checkpoint(tmp_path):
  """Its files are there when the checkpoint is: of the steps that are saved, and no others."""
  order = []

  def on_save(number):
    order.append(('on_save', number, number in count_steps(tmp_path / 'c')))

  def position(number):
    order.append(('position', number))
    return {'batches': number}

  _run(tmp_path, Batches(), on_save=on_save, position=position)
  assert order == [
    entry for n in (3, 6, 9, 10) for entry in (('on_save', n, False), ('position', n))
  ]
  assert count_steps(tmp_path / 'c') == [6, 9, 10]


def test_on_save_is_called_when_a_signal_stops_the_run(tmp_path):
  saved = []
  batches = Batches(on={5: lambda: os.kill(os.getpid(), signal.SIGTERM)})
  with pytest.raises(loop.Preempted):
    _run(tmp_path, batches, on_save=saved.append)
  assert saved == count_steps(tmp_path / 'c') == [3, 5]


def test_a_failure_of_on_save_prevents_the_checkpoint(tmp_path):
  def on_save(number):
    if number == 6:
      raise OSError('no space')

  with pytest.raises(OSError, match='no space'):
    _run(tmp_path, Batches(), on_save=on_save)
  assert count_steps(tmp_path / 'c') == [3]
  assert _go_on(tmp_path).step == 10


def test_on_save_is_not_called_for_a_state_that_is_not_finite(tmp_path):
  saved = []
  with pytest.raises(loop.NonFiniteLoss):
    _run(tmp_path, Batches(nan_at=6), on_save=saved.append)
  assert saved == count_steps(tmp_path / 'c') == [3]


@pytest.mark.parametrize('killed_before', ['on_save', 'save'])
def test_side_files_of_a_resumed_run_hold_each_step_once(tmp_path, killed_before):
  """A run that ends between its side file and its checkpoint repeats the steps and the file."""
  folder = tmp_path / 'side'
  folder.mkdir()

  class Killed(Exception): ...

  def make(killed):
    kept = []

    def on_save(number):
      if killed and number == 6 and killed_before == 'on_save':
        raise Killed
      (folder / f'{number}.json').write_text(json.dumps(kept))
      kept.clear()
      if killed and number == 6:
        raise Killed

    return {'on_step': lambda number, aux: kept.append(number), 'on_save': on_save}

  with pytest.raises(Killed):
    _run(tmp_path, Batches(), **make(killed=True))
  _go_on(tmp_path, **make(killed=False))
  parts = sorted(folder.iterdir(), key=lambda file: int(file.stem))
  steps = [number for file in parts for number in json.loads(file.read_text())]
  assert steps == list(range(1, 11))


def test_negative_intervals_are_errors(tmp_path):
  with pytest.raises(ValueError, match='log_every is -1'):
    _run(tmp_path, Batches(), log_every=-1)
