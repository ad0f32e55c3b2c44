"""Where the input stands: what a checkpoint records, and what a resumed run compares."""

import pytest

from movinet_jax.train.position import check_same_data, make_position


class Batches:
  def __init__(self, **identity):
    self._identity, self.closed = identity, False

  def identity(self):
    return self._identity

  def close(self):
    self.closed = True


def test_the_same_data_goes_on_from_any_batch():
  position = make_position(Batches(source='a', clip={'size': 16}))
  assert position(7) == {'batches': 7, 'source': 'a', 'clip': {'size': 16}}
  batches = Batches(source='a', clip={'size': 16})
  check_same_data(position(7), batches)
  assert not batches.closed


def test_other_data_is_named_and_closed():
  saved = make_position(Batches(source='a', clip={'size': 16}))(7)
  batches = Batches(source='b', clip={'size': 24})
  with pytest.raises(ValueError, match=r'clip\.size: was 16, now 24') as caught:
    check_same_data(saved, batches)
  assert 'source: was "a", now "b"' in str(caught.value)
  assert 'another version' not in str(caught.value)
  assert batches.closed


@pytest.mark.parametrize('key', ['fingerprint', 'records'])
def test_other_files_may_be_due_to_another_version(key):
  saved = make_position(Batches(**{key: 1}))(7)
  with pytest.raises(ValueError, match='another version may take more kinds of files'):
    check_same_data(saved, Batches(**{key: 2}))
