"""When frames are shown: from time stamps where they can be trusted, else by the rate."""

import numpy as np
import pytest

from movinet_jax.data import timeline
from movinet_jax.data.timeline import Clock, DelayedClock


def sort(*pts):
  return timeline.sort_stamps(np.array(pts), np.arange(len(pts)), 0.1, fps=25)


def test_stamps_out_of_order_are_sorted():
  shown = sort(20, 50, 30, 40)
  assert shown.pts.tolist() == [20, 30, 40, 50]
  assert shown.positions.tolist() == [0, 2, 3, 1]
  np.testing.assert_allclose(shown.times_secs, [0, 1, 2, 3])
  assert (len(shown), shown.fps, shown.duration_secs) == (4, pytest.approx(1), pytest.approx(4))


def test_stamps_that_occur_twice_are_not_trusted():
  assert sort(0, 1, 1) is None


def test_frames_come_out_of_the_decoder_so_many_packets_late():
  shown = timeline.delay_stamps(np.array([0, 1, 2, 3, 10, 12]), 2, 0.1, fps=10)
  np.testing.assert_allclose(shown.times_secs, [0, 0.1, 0.8, 1.0, 1.2, 1.4])
  shown = timeline.delay_stamps(np.array([7]), 0, 0.1, fps=10)
  assert (shown.times_secs.tolist(), shown.duration_secs) == ([0], pytest.approx(0.1))


@pytest.mark.parametrize('delay', [0, 1, 3])
@pytest.mark.parametrize('stamps', [range(8), [0, 1, 2, 3, 40, 44, 45, 90]])
def test_a_delayed_clock_agrees_with_delayed_stamps(delay, stamps):
  clock, shown = DelayedClock(10, 0.1), []
  for fed, stamp in enumerate(stamps):
    clock.feed(stamp)
    if fed >= delay:
      shown.append(clock.show(None))
  clock.drain()
  shown += [clock.show(None) for _ in range(delay)]
  wanted = timeline.delay_stamps(np.array(stamps), delay, 0.1, fps=10)
  np.testing.assert_allclose(shown, wanted.times_secs)


def test_a_delayed_clock_takes_parts_of_a_packet_for_one():
  clock = DelayedClock(10, 0.1)
  for stamp in (0, 0, 5, 5):
    clock.feed(stamp)
  clock.drain()
  np.testing.assert_allclose([clock.show(None) for _ in range(2)], [0, 0.5])


@pytest.mark.parametrize(
  ('stamps', 'wanted'),
  [
    ([7.0, 7.5, 9.0], [0, 0.5, 2.0]),
    ([None, None, None], [0, 0.1, 0.2]),
    ([2.0, None, 2.5], [0, 0.1, 0.5]),
    ([2.0, 2.4, 2.2, 2.3, 3.0], [0, 0.4, 0.5, 0.6, 1.0]),  # out of order
    ([2.0, 2.0, 2.0], [0, 0.1, 0.2]),
    ([0.0, 5.0, 5.04, 25.0, 25.04], [0.0, 5.0, 5.04, 25.0, 25.04]),  # gaps
    ([50.0, 50.1, 3.0, 3.3, 3.4], [0, 0.1, 0.2, 0.5, 0.6]),  # the clock is set anew
  ],
)
def test_a_clock_always_goes_on(stamps, wanted):
  clock = Clock(10)
  np.testing.assert_allclose([clock.show(stamp) for stamp in stamps], wanted)


def test_each_time_gets_its_nearest_frame():
  places = timeline.count_evenly(3, fps=1).find_places([1.9, 0.0, 0.6, 99.0])
  assert places == {2: [0, 3], 0: [1], 1: [2]}


def test_of_two_frames_that_are_equally_near_the_earlier_is_taken():
  shown = timeline.count_evenly(100, fps=29.97)
  middles = (shown.times_secs[1:] + shown.times_secs[:-1]) / 2
  for noise in (-1e-12, 0, 1e-12):
    assert shown.find_places(middles + noise) == {i: [i] for i in range(99)}
