"""When frames are shown: from time stamps where they can be trusted, else by the rate."""

import numpy as np
import pytest

from movinet_jax.data import timeline


def test_stamps_out_of_order_are_sorted():
  shown = timeline.read_stamps([20, 50, 30, 40], 0.1, fps=25)
  assert shown.pts == [20, 30, 40, 50]
  np.testing.assert_allclose(shown.times_secs, [0, 1, 2, 3])
  assert (len(shown), shown.fps, shown.duration_secs) == (4, pytest.approx(1), pytest.approx(4))


def test_frames_before_the_first_key_frame_are_not_shown():
  assert timeline.read_stamps([20, 0, 10, 30], 0.1, fps=25).pts == [20, 30]


@pytest.mark.parametrize('pts', [[0, None, 2], [0, 1, 1]])
def test_stamps_that_cannot_be_trusted_are_replaced_by_the_rate(pts):
  shown = timeline.read_stamps(pts, 1.0, fps=10)
  assert shown.pts is None
  np.testing.assert_allclose(shown.times_secs, [0, 0.1, 0.2])


@pytest.mark.parametrize('times', [[1.0, None], [2.0, 1.0], [1.0, 1.0]])
def test_times_that_do_not_increase_are_replaced_by_the_rate(times):
  np.testing.assert_allclose(timeline.read_times(times, fps=10).times_secs, [0, 0.1])
  np.testing.assert_allclose(timeline.read_times([2.0, 2.5], fps=10).times_secs, [0, 0.5])


def test_one_frame_lasts_as_long_as_the_file_states():
  assert timeline.read_times([7.0], fps=4).duration_secs == 0.25


def test_each_time_gets_its_nearest_frame():
  places = timeline.count_evenly(3, fps=1).find_places([1.9, 0.0, 0.6, 99.0])
  assert places == {2: [0, 3], 0: [1], 1: [2]}
