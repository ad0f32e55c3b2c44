"""What a search has tried, on disk: nothing missing and nothing twice after a kill."""

import numpy as np
import pytest

from nas.cost import CostTable, Term
from nas.oneshot.samples import Samples, SampleWriter, read_samples

COST = CostTable([Term((0,), np.array([10, 20, 30]))])


def make(step):
  rng = np.random.default_rng(step)
  return {
    'choices': rng.integers(0, 3, (2, 2)),
    'accuracy': rng.random(2).astype(np.float32),
    'reward': rng.random(2).astype(np.float32),
    'probabilities': rng.random((2, 3)).astype(np.float32),
  }


def write(folder, first, last, saves):
  writer = SampleWriter(folder, COST, first=first, every=2)
  for step in range(first + 1, last + 1):
    writer.add(step, make(step))
    if step in saves:
      writer.write(step)


def check(folder, last):
  samples, (steps, probabilities) = read_samples(folder, last)
  np.testing.assert_array_equal(samples.steps, np.repeat(np.arange(1, last + 1), 2))
  choices = np.concatenate([make(n)['choices'] for n in range(1, last + 1)])
  np.testing.assert_array_equal(samples.choices, choices)
  np.testing.assert_array_equal(samples.cost, 10 + 10 * choices[:, 0])
  np.testing.assert_array_equal(steps, np.arange(2, last + 1, 2))
  wanted = [make(n)['probabilities'] for n in steps]
  np.testing.assert_array_equal(probabilities, wanted)


def test_parts_join(tmp_path):
  write(tmp_path, 0, 10, {3, 4, 9, 10})
  check(tmp_path, 10)


def test_a_part_whose_checkpoint_never_was_comes_again(tmp_path):
  """Killed after writing the part of step 7, before the checkpoint of step 7."""
  write(tmp_path, 0, 7, {4, 7})
  write(tmp_path, 4, 10, {8, 10})
  check(tmp_path, 10)


def test_later_parts_are_not_read(tmp_path):
  write(tmp_path, 0, 8, {4, 8})
  check(tmp_path, 4)


def test_nothing_is_nothing(tmp_path):
  assert read_samples(tmp_path, 5) == (None, None)
  SampleWriter(tmp_path / 'new', COST, first=0, every=1).write(1)
  assert list((tmp_path / 'new').iterdir()) == []


def test_arrays_of_different_lengths_are_refused():
  with pytest.raises(ValueError, match='one length'):
    Samples(*(np.zeros(n) for n in (2, 2, 2, 2, 3)))
