"""Times grow with work, do not contain the start of programs, and survive in a file."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax import models
from nas import runtime


def multiply(carry):
  matrix, x = carry
  return matrix, jnp.tanh(matrix @ x)


def test_times_grow_with_the_work():
  times = [runtime.measure_ns(multiply, (jnp.ones((n, n)), jnp.ones((n, 64)))) for n in (64, 512)]
  # 64 times the work. A start, tens of microseconds, would hide that.
  assert 8 < times[1] / times[0] < 1000


def test_what_does_not_change_is_computed_every_time():
  """Nothing of a step may be lifted out of the loop that repeats it."""

  def step(carry):
    matrix, x, _ = carry
    return matrix, x, jnp.tanh(matrix @ x)

  start = jnp.ones((256, 256)), jnp.ones((256, 256)), jnp.zeros((256, 256))
  alone = runtime.measure_ns(step, start)

  # The same product, but each depends on the one before.
  changing = runtime.measure_ns(lambda c: (c[0], jnp.tanh(c[0] @ c[1]), c[2]), start)
  assert alone > changing / 4


def test_a_file_goes_on_after_a_torn_line(tmp_path):
  path = tmp_path / 'sub' / 'times.jsonl'
  about = {'device': 'cpu', 'size': [1, 2]}
  runtime.TimesFile(path, about).add('a', 5)
  with path.open('a') as file:
    file.write('{"part": "b", "n')
  again = runtime.TimesFile(path, about)
  assert again.times == {'a': 5}
  again.add('b', 7)
  assert runtime.read_times(path) == (about, {'a': 5, 'b': 7})


def test_files_of_something_else_are_refused(tmp_path):
  path = tmp_path / 'times.jsonl'
  runtime.TimesFile(path, {'device': 'a', 'batch': 1})
  with pytest.raises(ValueError, match=r'times of something else \(device a, now b\)'):
    runtime.TimesFile(path, {'device': 'b', 'batch': 1})
  path.write_text(json.dumps({'version': 9, 'about': {}}))
  with pytest.raises(ValueError, match='version 9, this code reads 2'):
    runtime.read_times(path)
  path.write_bytes(np.random.default_rng(0).bytes(100).replace(b'\n', b' '))
  with pytest.raises(ValueError, match='no file of measured times'):
    runtime.read_times(path)
  about = {'device': 'a', 'jax': '0.9'}
  path.write_text(json.dumps({'version': 1, 'about': about}) + '\n{"part": "stem", "ns": 7}\n')
  with pytest.raises(ValueError, match=r'version 1, .* cores .* measure again'):
    runtime.TimesFile(path, about)
  assert runtime.read_times(path) == (about, {'stem': 7})  # for a search that began with it
  path.write_text(json.dumps({'version': 2, 'about': 3}))
  with pytest.raises(ValueError, match='no file of measured times'):
    runtime.read_times(path)
  head = json.dumps({'version': 2, 'about': {}})
  for line in ('12', '{"part": "a", "ns": "x"}', '{"part": "a"}'):
    path.write_text(f'{head}\n{line}\n')
    with pytest.raises(ValueError, match='a line that is no measured time'):
      runtime.read_times(path)
  path.write_text('')
  with pytest.raises(ValueError, match='no file of measured times'):
    runtime.read_times(path)


TWO_CORES = {'device': 'EPYC', 'cores': 2, 'jax': '0.10.2', 'batch': 1}
ONE_CORE = {**TWO_CORES, 'cores': 1}


def write_times(path, about, **times) -> list[str]:
  file = runtime.TimesFile(path, about)
  for name, ns in times.items():
    file.add(name, ns)
  return path.read_text().splitlines(keepends=True)


def test_times_of_two_machines_in_one_file_are_refused(tmp_path):
  path, other = tmp_path / 'times.jsonl', tmp_path / 'other.jsonl'
  mine = write_times(path, TWO_CORES, stem=5, head=6)
  theirs = write_times(other, ONE_CORE, head=9, layer=7)
  said = r'cores 2, now 1'
  with pytest.raises(ValueError, match=said):  # the same command, on another machine
    runtime.TimesFile(path, ONE_CORE)
  assert path.read_text() == ''.join(mine)
  path.write_text(''.join(mine + theirs))  # cat
  for read in (lambda: runtime.read_times(path), lambda: runtime.TimesFile(path, TWO_CORES)):
    with pytest.raises(ValueError, match=rf'from line 4 on \({said}\)'):
      read()
  path.write_text(''.join(mine + theirs[1:]))  # and without its first line
  with pytest.raises(ValueError, match='line 4: its time is about') as caught:
    runtime.read_times(path)
  digests = [json.loads(lines[1])['about'] for lines in (mine, theirs)]
  assert all(digest in str(caught.value) for digest in digests)
  path.write_text(''.join(theirs[:1] + mine[1:]))  # the first line changed
  with pytest.raises(ValueError, match='line 2: its time is about'):
    runtime.read_times(path)
  path.write_text(''.join([*mine, '{"part": "layer", "ns": 7}\n']))  # of version 1, or by hand
  with pytest.raises(ValueError, match='line 4: its time is about None'):
    runtime.read_times(path)


def test_files_of_one_machine_may_be_put_together(tmp_path):
  path, other = tmp_path / 'times.jsonl', tmp_path / 'other.jsonl'
  lines = write_times(path, TWO_CORES, stem=5) + write_times(other, TWO_CORES, head=6)
  path.write_text(''.join(lines))
  assert runtime.read_times(path) == (TWO_CORES, {'stem': 5, 'head': 6})


def test_a_network_far_over_a_limit_is_measured_by_few_calls(monkeypatch):
  model = models.create('movinet/a0', frames=1, resolution=16, num_classes=2)
  seen = []
  measure = runtime.measure_ns
  monkeypatch.setattr(runtime, 'measure_ns', lambda *a: seen.append(a) or measure(*a))
  slow = runtime.measure_latency(model, repeats=1, most_ns=1)
  assert slow.ns > 3
  assert not seen
  # What is near the limit, or under it, is measured as ever; starting it does not count.
  found = runtime.measure_latency(model, repeats=1, most_ns=10 * slow.ns)
  assert len(seen) == 1
  assert found.ns < 3 * slow.ns
