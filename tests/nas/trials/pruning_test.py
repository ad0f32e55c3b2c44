import pytest

from nas.trials.pruning import Pruning


def test_the_median_of_those_that_came_as_far():
  curves = [{1: 0.1, 2: 1.0}, {1: 0.2, 2: 3.0}, {1: 0.3}, {}]
  found = Pruning((1, 2, 3), least=2, lag=0).find_thresholds(curves)
  assert found == {1: 0.2, 2: 2.0}  # nobody came to 3


def test_a_quantile_lets_the_best_of_eta_go_on():
  curves = [{9: n / 10} for n in range(10)]
  threshold = Pruning((9,), quantile=1 - 1 / 5, lag=0).find_thresholds(curves)[9]
  assert sum(curve[9] >= threshold for curve in curves) == 2


@pytest.mark.parametrize('count', [0, 4, 5])
def test_nobody_is_stopped_by_too_few(count):
  found = Pruning((1,), least=5).find_thresholds([{1: 0.5}] * count)
  assert found == ({1: 0.5} if count == 5 else {})


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'steps': ()}, r'steps is \(.*numbers that ascend'),
    ({'steps': (2, 1)}, r'steps is \(.*numbers that ascend'),
    ({'steps': (1, 1)}, r'steps is \(.*numbers that ascend'),
    ({'steps': (1,), 'quantile': 1.0}, 'quantile is 1.0'),
    ({'steps': (1,), 'least': 0}, 'least is 0'),
    ({'steps': (1,), 'lag': -1}, 'lag is -1'),
  ],
)
def test_settings_out_of_range(settings, message):
  with pytest.raises(ValueError, match=message):
    Pruning(**settings)
