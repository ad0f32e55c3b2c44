"""What a space of MoViNets may be asked for; all else is refused in a sentence."""

import json
import math
import re
import time

import numpy as np
import pytest

from movinet_jax.spec import to_json
from nas.spaces import movinet

SMALL = {
  **{'stem': 8, 'widths': (8, 16), 'strides': (1, 2), 'depth': 2, 'project': 16},
  **{'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0), 'head': 8},
  **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0,)},
  **{'frames': 3, 'resolution': 24, 'frame_stride': 1},
}
WHOLE = 'wanted a whole number from 1 to 1,000,000'
NO_WHOLE = (None, 'abc', 1.5, 2.0, True, 0, -1, 10**7, math.nan, (8,))
NO_LIST = (None, 'abc', (), [], 3, {}, np.float32(1))


def refuse(options, message):
  """Checks that make_space answers in one line with `message`, and at once."""
  begin = time.perf_counter()
  with pytest.raises(ValueError, match=message) as caught:
    movinet.make_space(**options)
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
    ({'blocks': ()}, 'blocks is what the space decides: say widths, strides, depth'),
  ],
)
def test_spaces_that_make_no_sense(options, message):
  refuse(options, message)


@pytest.mark.parametrize(
  'phi',
  [None, 'abc', True, (0,), math.nan, math.inf, -math.inf, 100, 8.1, -5.1, 10**400],
)
def test_phi_is_a_number_that_networks_have(phi):
  refuse({'phi': phi}, r'^phi is .*; wanted a number from -5 to 8: A0 to A5 are -2 to 3')


@pytest.mark.parametrize('value', [None, 3, (1.3, 1.1, 1.1, 1.2), {}, {'depth': 1.3}])
def test_coefficients_are_one_for_each_axis(value):
  wanted = 'wanted a number for each of depth, width, resolution, rate'
  refuse({'coefficients': value}, f'^coefficients is {re.escape(repr(value))}; {wanted}')


@pytest.mark.parametrize('value', [None, '1.3', True, 0.99, 0, -1, 16.1, math.nan])
@pytest.mark.parametrize('axis', ['depth', 'width', 'resolution', 'rate'])
def test_coefficients_are_numbers_that_enlarge(axis, value):
  given = {**movinet.PUBLISHED._asdict(), axis: value}
  wanted = f'^the coefficient of {axis} is {re.escape(repr(value))}; wanted a number from 1'
  refuse({'coefficients': given}, wanted)


@pytest.mark.parametrize('axis', ['width', 'resolution'])
def test_sizes_are_bounded_at_their_phi(axis):
  given = {**movinet.PUBLISHED._asdict(), axis: 16}
  message = r' at φ = 8 is [0-9]+; wanted a whole number from 1 to 1,000,000'
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
  refuse({key: value}, f'^{key} is {re.escape(repr(value))}; {WHOLE}')
  if key not in ('stem', 'project', 'depth'):  # not even where a clip is given
    refuse({key: value, 'clip': (8, 32, 1)}, f'^{key} is {re.escape(repr(value))}')


@pytest.mark.parametrize('value', NO_LIST)
@pytest.mark.parametrize(
  ('key', 'example'),
  [
    ('kernels', '((1, 3, 3), (3, 3, 3))'),
    *((key, '(0.75, 1.0') for key in ('expansions', 'multipliers', 'stem_multipliers')),
    *[('widths', '(24, 48, 96)'), ('strides', '(2, 2, 1)')],
  ],
)
def test_lists_are_lists(key, example, value):
  refuse(
    {key: value},
    f'^{key} is {re.escape(repr(value))}; wanted a list such as {re.escape(example)}',
  )


@pytest.mark.parametrize('value', NO_WHOLE)
@pytest.mark.parametrize('key', ['widths', 'strides'])
def test_widths_and_strides_are_whole_numbers(key, value):
  message = rf'^{key}\[1\] is {re.escape(repr(value))}; {WHOLE}'
  refuse({'widths': (8, 16), 'strides': (1, 2), key: [2, value]}, message)


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
  message = r'; wanted three odd whole numbers \(frames, height, width\) such as \(3,'
  for kernels in ([(3, 3, 3), kernel], [[1, 3, 3], kernel]):
    message_here = rf'^kernels\[1\] is {re.escape(repr(kernel))}{message}'
    refuse({'kernels': kernels}, message_here)


@pytest.mark.parametrize(
  ('kernels', 'message'),
  [
    ((3, 5), r'kernels\[0\] is 3; wanted three odd'),
    ((3, 3, 3), r'kernels\[0\] is 3; wanted three odd'),
    (((1, 3, 3), [3, 1, 1], [1, 3, 3]), r'kernels has \(1, 3, 3\) twice'),
  ],
)
def test_kernels_that_are_no_list_of_kernels(kernels, message):
  refuse({'kernels': kernels}, message)


@pytest.mark.parametrize('key', ['expansions', 'multipliers', 'stem_multipliers'])
def test_multipliers_are_numbers_that_ascend(key):
  for value in (None, 'abc', True, 0, -1.0, 0.0, math.nan, math.inf, 1e308, (1,)):
    message = rf'^{key}\[1\] is {re.escape(repr(value))}; wanted a number from 0.01'
    refuse({key: (1.0, value)}, message)
  for value in ((1.0, 0.5), [1, 2, 2], (1, 1.0)):
    message = f'^{key} is {re.escape(repr(value))}; wanted numbers that ascend'
    refuse({key: value, 'merge_equal': True}, message)


@pytest.mark.parametrize(
  ('clip', 'message'),
  [
    *((clip, r'clip is .*such as \(50, 224, 5\), or None') for clip in ('abc', 8, ())),
    *((clip, 'clip is .*wanted three') for clip in ((8, 32), [8, 32, 1, 1])),
    ((8, 1.5, 1), rf'clip\[1\] is 1.5; {WHOLE}'),
    ((0, 32, 1), rf'clip\[0\] is 0; {WHOLE}'),
    (('8', 32, 1), rf"clip\[0\] is '8'; {WHOLE}"),
    ((8, 32, True), rf'clip\[2\] is True; {WHOLE}'),
  ],
)
def test_clips_are_three_whole_numbers(clip, message):
  refuse({'clip': clip}, f'^{message}')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    *(({'se': se}, "^se is .*; wanted True, False or 'search'") for se in (1, None, [])),
    ({'se': '3d'}, "se is '3d'; .*What it squeezes is se_kind"),
    ({'se_kind': '4d'}, "^se_kind is '4d': unknown squeeze-excite '4d'.*2plus3d"),
    ({'se_kind': True}, '^se_kind should be str, got True'),
    ({'merge_equal': 'no'}, "^merge_equal is 'no'; wanted True or False"),
    ({'activation': 'swich'}, "^activation is 'swich': .*did you mean 'swish'"),
    ({'gate': 'x'}, "^gate is 'x': unknown activation"),
    ({'gate': ['sigmoid']}, '^gate should be str, got'),
    ({'conv': '4d'}, "^conv is '4d': unknown conv '4d'"),
    ({'head': 0}, '^head is 0: head is at least 1'),
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
  mine = movinet.make_space(np.float32(0), causal=np.bool_(True), **as_lists)
  assert mine == movinet.make_space(0, causal=True, **SMALL)
  assert mine.space.digest == movinet.make_space(**SMALL).space.digest
  spec = mine.decode(mine.largest())
  assert json.dumps(to_json(spec)) == json.dumps(
    to_json(movinet.make_space(causal=True, **SMALL).decode(mine.largest()))
  )
  clip = (np.int64(8), 32, np.int16(2))
  assert movinet.make_space(clip=clip) == movinet.make_space(clip=[8, 32, 2])
