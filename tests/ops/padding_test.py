"""Padding, from its definition."""

import pytest

from movinet_jax.ops import same_padding, space_padding, time_padding


@pytest.mark.parametrize('stride', [1, 2, 3, 5])
@pytest.mark.parametrize('kernel', [1, 2, 3, 5, 7])
@pytest.mark.parametrize('size', [1, 2, 7, 8])
def test_same_padding_is_the_least_that_fits(size, kernel, stride):
  """ceil(size / stride) windows, no zero too many, the odd one behind."""
  before, after = same_padding(size, kernel, stride)
  outputs = -(-size // stride)
  assert 0 <= after - before <= 1
  padded = size + before + after
  assert (padded - kernel) // stride + 1 >= outputs
  if before + after:
    assert padded == (outputs - 1) * stride + kernel


def test_published_cases():
  """TensorFlow's 'same', as the reference pads: kernel, stride, even and odd sizes."""
  cases = {(8, 3): (0, 1), (7, 3): (1, 1), (8, 5): (1, 2), (7, 5): (2, 2)}
  for (size, kernel), wanted in cases.items():
    assert same_padding(size, kernel, 2) == wanted


@pytest.mark.parametrize('kernel', [1, 2, 3, 4, 5])
def test_time_padding(kernel):
  assert time_padding(kernel, 'causal') == (kernel - 1, 0)
  assert time_padding(kernel, 'same') == same_padding(10, kernel)
  assert time_padding(kernel, 'valid') == (0, 0)


def test_unknown_time_padding():
  with pytest.raises(ValueError, match="got 'casual': use 'causal' for streams"):
    time_padding(3, 'casual')


@pytest.mark.parametrize('kernel', [1, 3, 5, 7])
@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('size', [1, 2, 7, 8])
def test_centred_padding_is_pytorch_s(size, kernel, stride):
  """Windows stand where padding by kernel // 2 on both sides puts them, and are as many."""
  before, after = space_padding('centred', size, kernel, stride)
  assert before == kernel // 2
  theirs = (size + 2 * (kernel // 2) - kernel) // stride + 1
  assert (size + before + after - kernel) // stride + 1 == theirs
  assert 0 <= after <= kernel // 2


def test_unknown_space_padding():
  with pytest.raises(ValueError, match="unknown padding 'centered'; did you mean"):
    space_padding('centered', 8, 3, 1)
