"""What a space of MoViNets may be asked for; all else is refused in a sentence."""

import json
import math
import re
import time

import numpy as np
import pytest

from movinet_jax.spec import to_json
from nas import spaces
from nas.spaces import movinet

SMALL = {
  **{'stem': 8, 'widths': (8, 16), 'strides': (1, 2), 'depth': 2, 'project': 16},
  **{'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0), 'head': 8},
  **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0,)},
  **{'frames': 3, 'resolution': 24, 'frame_stride': 1},
}
WHOLE = 'wanted a whole number, from 1 to 1,000,000'


def name(key, value):
  """How a value of a wrong type or out of its range is said."""
  got = re.escape(repr(value))
  return rf'^space\.{key} (is {got}; wanted|should be .*, got {got}$|is {got}, wanted)'


NO_WHOLE = (None, 'abc', 1.5, 2.0, True, 0, -1, 10**7, math.nan, (8,))
NO_LIST = (None, 'abc', (), 3, {}, np.float32(1))


def refuse(options, message):
  """Checks that make_space answers in one line with `message`, and at once."""
  begin = time.perf_counter()
  with pytest.raises(ValueError, match=message) as caught:
    spaces.create('movinet', **options)
  assert '\n' not in str(caught.value)
  assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'phi': -2.0}, r'φ = -2 rounds two choices into one: block 0 has base width 16'),
    ({'strides': (1, 2)}, '5 widths and 2 strides'),
    ({'kernel': ((3, 3, 3),)}, "argument of a space 'kernel'; did you mean 'kernels'"),
    ({'activaton': 'swish'}, "'activaton'; did you mean 'activation'"),
    ({'fields': {}}, "unknown argument of a space 'fields'"),
    ({'blocks': ()}, "unknown argument of a space 'blocks'"),
  ],
)
def test_spaces_that_make_no_sense(options, message):
  refuse(options, message)


@pytest.mark.parametrize('phi', [None, 'abc', True, (0,)])
def test_phi_is_a_number(phi):
  refuse({'phi': phi}, name('phi', phi))


@pytest.mark.parametrize('phi', [math.nan, math.inf, -math.inf, 100.0, 8.1, -5.1])
def test_phi_is_one_that_networks_have(phi):
  refuse({'phi': phi}, rf'^space\.phi is {phi}; wanted a number, from -5 to 8')


def test_phi_may_not_be_beyond_all_numbers():
  refuse({'phi': 10**400}, r'^space\.phi is 1000.*wanted at most')


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (None, r'coefficients should be a table, got None'),
    (3, r'coefficients should be a table, got 3'),
    ((1.3, 1.1, 1.1, 1.2), r'coefficients should be a table, got \(1\.3, '),
    ({}, 'lacks coefficients.depth'),
    ({'depth': 1.3}, 'lacks coefficients.width'),
    ({'dpeth': 1.3}, "coefficients has no key 'dpeth'; did you mean 'depth'"),
  ],
)
def test_coefficients_are_one_for_each_axis(value, message):
  refuse({'coefficients': value}, message)


@pytest.mark.parametrize('value', [None, '1.3', True, 0.99, 0.0, -1.0, 16.1, math.nan])
@pytest.mark.parametrize('axis', ['depth', 'width', 'resolution', 'rate'])
def test_coefficients_are_numbers_that_enlarge(axis, value):
  given = {**movinet.PUBLISHED._asdict(), axis: value}
  refuse({'coefficients': given}, name(f'coefficients.{axis}', value).replace(r'space\.', ''))


@pytest.mark.parametrize('axis', ['width', 'resolution'])
def test_sizes_are_bounded_at_their_phi(axis):
  given = {**movinet.PUBLISHED._asdict(), axis: 16}
  message = r' at φ = 8 is [0-9]+; wanted a whole number, from 1 to 1,000,000'
  refuse({'phi': 8, 'depth': 1, 'coefficients': given}, message)


@pytest.mark.parametrize('phi', [-5, 8])
def test_spaces_of_the_outermost_phi_are_built(phi):
  space = movinet.make_space(phi, merge_equal=True)
  choices = space.largest()
  assert space.decode(choices) == space.decode(space.encode(space.decode(choices)))
  assert len(space.places) == 5 * space.blocks[0].depth


@pytest.mark.parametrize(
  ('phi', 'depth', 'found'),
  [(0, 201, '201'), (8.0, 20, '234'), (0, 10**6, '1,000,000')],
)
def test_depth_is_bounded_in_all(phi, depth, found):
  message = f'^depth is {depth}: with φ = {phi:g} that is {found} layers in each of 5'
  refuse({'phi': phi, 'depth': depth}, message + ' blocks; wanted at most 1,000 in all')


SIZES = ('stem', 'project', 'depth', 'resolution', 'frames', 'frame_stride')


@pytest.mark.parametrize('value', NO_WHOLE)
@pytest.mark.parametrize('key', SIZES)
def test_sizes_are_whole_numbers(key, value):
  refuse({key: value}, name(key, value))
  if key not in ('stem', 'project', 'depth'):  # not even where a clip is given
    refuse({key: value, 'clip': (8, 32, 1)}, name(key, value))


LISTS = ('kernels', 'expansions', 'multipliers', 'stem_multipliers', 'widths', 'strides')


@pytest.mark.parametrize('value', NO_LIST)
@pytest.mark.parametrize('key', LISTS)
def test_lists_are_lists(key, value):
  refuse({key: value}, name(key, value))


@pytest.mark.parametrize('value', NO_WHOLE)
@pytest.mark.parametrize('key', ['widths', 'strides'])
def test_widths_and_strides_are_whole_numbers(key, value):
  refuse({'widths': (8, 16), 'strides': (1, 2), key: [2, value]}, name(rf'{key}\[1\]', value))


@pytest.mark.parametrize(
  'kernel',
  [
    *[
      3,
      'abc',
      None,
      (3, 3),
      (3, 3, 3, 3),
      (1, 0, 3),
      (-3, 3, 3),
      (2, 3, 3),
      (3, 3, 4),
    ],
    *[(3, 3, 3.0), (1.5, 3, 3), (True, 3, 3), (3, None, 3), (3, 3, math.nan), '333'],
  ],
)
def test_kernels_are_three_odd_sizes(kernel):
  for kernels in ([(3, 3, 3), kernel], [[1, 3, 3], kernel]):
    refuse({'kernels': kernels}, r'^space\.kernels\[1\](\[[012]\])? (is|should be|wants 3)')


@pytest.mark.parametrize(
  ('kernels', 'message'),
  [
    ((3, 5), r'kernels\[0\] should be a list, got 3'),
    ((3, 3, 3), r'kernels\[0\] should be a list, got 3'),
    (((1, 2, 3),), r'kernels\[0\]\[1\] is 2; wanted an odd number'),
    (((1, 3),), r'kernels\[0\] wants 3 values, got \(1, 3\)'),
    (((1, 3, 3), [3, 1, 1], [1, 3, 3]), r'kernels is .*; wanted .* each once'),
  ],
)
def test_kernels_that_are_no_list_of_kernels(kernels, message):
  refuse({'kernels': kernels}, message)


@pytest.mark.parametrize('key', ['expansions', 'multipliers', 'stem_multipliers'])
def test_multipliers_are_numbers_that_ascend(key):
  for value in (None, 'abc', True, -1.0, 0.0, math.nan, math.inf, 1e308, (1,)):
    refuse({key: (1.0, value)}, name(rf'{key}\[1\]', value))
  for value in ((1.0, 0.5), (1.0, 2.0, 2.0), (1.0, 1.0)):
    message = rf'^space\.{key} is {re.escape(repr(value))}; wanted numbers that ascend'
    refuse({key: value, 'merge_equal': True}, message)


@pytest.mark.parametrize(
  ('clip', 'message'),
  [
    *((clip, 'clip should be a list') for clip in ('abc', 8)),
    *((clip, 'clip wants 3 values') for clip in ((), (8, 32), [8, 32, 1, 1])),
    ((8, 1.5, 1), r'clip\[1\] should be int, got 1.5'),
    ((0, 32, 1), rf'clip\[0\] is 0; {WHOLE}'),
    (('8', 32, 1), r"clip\[0\] should be int, got '8'"),
    ((8, 32, True), r'clip\[2\] should be int, got True'),
  ],
)
def test_clips_are_three_whole_numbers(clip, message):
  refuse({'clip': clip}, rf'^space\.{message}')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    *(({'se': se}, "se should be bool or 'search', got") for se in (1, None, [], '3d')),
    ({'se_kind': '4d'}, "se_kind is '4d'.*2plus3d"),
    ({'se_kind': True}, 'se_kind is True.*2plus3d'),
    ({'merge_equal': 'no'}, "merge_equal should be bool, got 'no'"),
    ({'whole_stride': 1}, 'whole_stride should be bool, got 1'),
    ({'activation': 'swich'}, "^activation is 'swich'; did you mean 'swish'"),
    ({'gate': 'x'}, "^gate is 'x' .*sigmoid"),
    ({'gate': ['sigmoid']}, r"^gate is \['sigmoid'\]"),
    ({'conv': '4d'}, "^conv is '4d'.*2plus1d"),
    ({'head': 0}, '^head is 0; wanted a whole number, 1 or more'),
    ({'head': 1.5}, '^head should be int, got 1.5'),
    ({'head': None}, '^head should be int, got None'),
    ({'causal': 1}, '^causal should be bool, got 1'),
    ({'positions': 'yes'}, "^positions should be bool, got 'yes'"),
  ],
)
def test_other_fields_are_those_of_networks(options, message):
  refuse(options, message)


def test_lists_and_numbers_of_numpy_are_as_good():
  """What a config makes of tuples, and what numpy counts, is the same space."""
  as_lists = {
    key: [list(v) if isinstance(v, tuple) else v for v in value]
    if isinstance(value, tuple)
    else np.int64(value)
    for key, value in SMALL.items()
  }
  as_lists['widths'] = [np.int32(width) for width in SMALL['widths']]
  as_lists['kernels'] = [[np.int64(size) for size in k] for k in SMALL['kernels']]
  mine = spaces.create('movinet', phi=np.float32(0), causal=np.bool_(True), **as_lists)
  assert mine == movinet.make_space(0, causal=True, **SMALL)
  assert mine.space.digest == movinet.make_space(**SMALL).space.digest
  spec = mine.decode(mine.largest())
  assert json.dumps(to_json(spec)) == json.dumps(
    to_json(movinet.make_space(causal=True, **SMALL).decode(mine.largest()))
  )
  clip = (np.int64(8), 32, np.int16(2))
  assert spaces.create('movinet', clip=clip) == movinet.make_space(clip=(8, 32, 2))
