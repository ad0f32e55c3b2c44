"""Rules that write each primitive of a traced network as four-dimensional operations.

A rule takes the walk, the equation and its operands: values, and constants as NumPy arrays.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from movinet_jax.export import views
from movinet_jax.export.fold import fold
from movinet_jax.export.graph import Shape, Tensor
from movinet_jax.export.walk import Counter, Platform, Rules, Value, Walk

MOST_TURNS = 256  # of a loop, since all of them are unrolled


# Calls, branches and loops.


def _call(walk: Walk, equation, operands):
  found = next(equation.params[key] for key in _BODIES if equation.params.get(key) is not None)
  if hasattr(found, 'consts'):
    return walk.run_closed(found, operands)
  return walk.run(found, (), operands)


_BODIES = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')


def _branch(walk: Walk, equation, operands):
  """Follows the branch that will run.

  Of branches for platforms it takes the one with a plain convolution: every runtime has a kernel
  for that.
  """
  index, *rest = operands
  branches = equation.params['branches']
  if index is Platform:
    plain = (n for n, one in enumerate(branches) if any(find(one.jaxpr, 'conv_general_dilated')))
    return walk.run_closed(branches[next(plain, -1)], rest)
  if isinstance(index, Value | Counter):
    walk.refuse(
      'decides while it runs which of its parts run, as ensembles do that begin with frames which '
      'a member does not see: only stablehlo can express that'
    )
  return walk.run_closed(branches[int(np.clip(index, 0, len(branches) - 1))], rest)


def _loop(walk: Walk, equation, operands):
  """Unrolls a loop of known length."""
  params = equation.params
  turns, held = params['length'], params['num_carry']
  if turns > MOST_TURNS:
    walk.refuse(f'has a loop of {turns} turns; at most {MOST_TURNS} can be written out')
  constants, rest = operands[: params['num_consts']], operands[params['num_consts'] :]
  carry, rows, outputs = rest[:held], rest[held:], []
  order = range(turns - 1, -1, -1) if params['reverse'] else range(turns)
  for turn in order:
    now = [_take(walk, row, turn) for row in rows]
    carry, found = _split(walk.run_closed(params['jaxpr'], [*constants, *carry, *now]), held)
    outputs.append(found)
  if params['reverse']:
    outputs.reverse()
  return [*carry, *(_stack(walk, column) for column in zip(*outputs, strict=True))]


def _split(found, count):
  return found[:count], found[count:]


def _take(walk: Walk, row, turn: int):
  if not isinstance(row, Value | Counter):
    return np.asarray(row)[turn]
  if isinstance(row, Counter):
    return Counter(row.leaf, row.plus[turn], row.sign)
  start, limit = [0] * len(row.shape), list(row.shape)
  start[0], limit[0] = turn, turn + 1
  part = _cut(walk, row, start, limit, [1] * len(start))
  return Value(part.tensor, row.shape[1:])


def _stack(walk: Walk, column: Sequence):
  if not any(isinstance(one, Value | Counter) for one in column):
    return np.stack(column)
  rows = [Value(one.tensor, (1, *one.shape)) for one in column]
  return _join(walk, rows, 0)


_CONTROL = {
  **dict.fromkeys(
    ('jit', 'pjit', 'closed_call', 'custom_jvp_call', 'custom_vjp_call', 'remat2', 'checkpoint'),
    _call,
  ),
  'platform_index': lambda walk, equation, operands: [Platform],
  'cond': _branch,
  'scan': _loop,
}


def find(program, name: str) -> Iterator:
  """Finds the equations of a primitive in a program and in all that it calls."""
  for equation in program.eqns:
    if equation.primitive.name == name:
      yield equation
    for value in equation.params.values():
      for one in value if isinstance(value, tuple | list) else [value]:
        inner = getattr(one, 'jaxpr', one)
        if hasattr(inner, 'eqns'):
          yield from find(inner, name)


# Counts: whole numbers whose constant part decides what runs.


def _shift(sign):
  def rule(equation, a, b):
    if isinstance(b, Counter):
      a, b = (b, a) if sign > 0 else (Counter(b.leaf, -b.plus, -b.sign), a)
      return None if isinstance(b, Counter) else Counter(a.leaf, a.plus + np.asarray(b), a.sign)
    return None if isinstance(b, Value) else Counter(a.leaf, a.plus + sign * np.asarray(b), a.sign)

  return rule


def _rearrange(equation, a):
  return Counter(a.leaf, fold(equation, [a.plus])[0], a.sign)


def _convert(equation, a):
  whole = np.issubdtype(equation.params['new_dtype'], np.integer)
  return Counter(a.leaf, a.plus, a.sign) if whole else None


def _decide(smaller: bool | None, equal: bool | None, larger: bool):
  """Compares a count with a constant, where the least value of the count decides."""

  def rule(equation, a, b):
    if not isinstance(a, Counter) or isinstance(b, Value | Counter) or a.sign < 0:
      return None
    plus, b = np.broadcast_arrays(a.plus, b)
    if (plus > b).all():
      return np.full(plus.shape, larger)
    if equal is not None and equal == larger and (plus >= b).all():
      return np.full(plus.shape, larger)
    return None

  return rule


def _choose_count(equation, which, *cases):
  if isinstance(which, Value | Counter) or len(set(np.ravel(which).tolist())) != 1:
    return None
  return cases[int(np.ravel(which)[0])]


_COUNTING = {
  'select_n': _choose_count,
  'add': _shift(1),
  'sub': _shift(-1),
  'neg': lambda equation, a: Counter(a.leaf, -a.plus, -a.sign),
  'convert_element_type': _convert,
  **dict.fromkeys(('broadcast_in_dim', 'reshape', 'squeeze', 'slice'), _rearrange),
  'gt': _decide(None, False, True),
  'ge': _decide(None, True, True),
  'lt': _decide(None, False, False),
  'le': _decide(None, True, False),
  'eq': _decide(None, True, False),
  'ne': _decide(None, False, True),
}


def _remainder(walk: Walk, equation, a, b):
  """Takes the remainder of a count as if the count were a multiple; `program` proves that it is."""
  if not isinstance(a, Counter) or isinstance(b, Value | Counter):
    walk.refuse('takes the remainder of what it sees, which a graph cannot say')
  (divisor,) = set(np.ravel(b).tolist())
  walk.divisors[a.leaf] = math.lcm(walk.divisors.get(a.leaf, 1), divisor)
  return np.mod(a.plus, b)


# Elementwise operations.


def _pointwise(op: str):
  def rule(walk: Walk, equation, *operands):
    return combine(walk, op, operands, equation.outvars[0].aval.shape)

  return rule


def combine(walk: Walk, op: str, operands: Sequence, shape: Sequence[int]) -> Value:
  """Adds an elementwise operation on arrays that are broadcast to `shape`."""
  shape = tuple(shape)
  operands = [_widen(one, len(shape)) for one in operands]
  held = tuple(np.broadcast_shapes(*(_find_held(one) for one in operands)))
  ways = [_align(operands, held, seen) for seen in _list_ways(walk, operands, held)]
  way = _choose(walk, operands, [one for one in ways if one])
  if way is None:
    walk.refuse(f'broadcasts {[_find_held(one) for one in operands]} in too many ways at once')
  inputs = [
    walk.see(Value(one.tensor, one.held), seen)
    if isinstance(one, Value)
    else _reshape_constant(one, held, seen)
    for one, seen in zip(operands, way, strict=True)
  ]
  return Value(walk.add(op, *inputs), shape, held)


def _find_held(one):
  return one.held if isinstance(one, Value) else np.shape(one)


def _widen(one, rank):
  """Adds axes of size 1 in front, which scalars lack."""
  more = (1,) * (rank - (len(one.shape) if isinstance(one, Value) else np.ndim(one)))
  if isinstance(one, Value):
    return Value(one.tensor, (*more, *one.shape), (*more, *one.held))
  return np.asarray(one).reshape((*more, *np.shape(one)))


def _list_ways(walk, operands, held) -> list[Shape]:
  """Lists views of the result: those that operands have already, then all others."""
  whole = [one for one in operands if isinstance(one, Value) and one.held == held]
  now = [one.tensor.shape for one in whole]
  return [*now, *(views.view(held, parts) for parts in walk.list_parts(held))]


def _align(operands, held, seen) -> list[Shape] | None:
  """Views each operand so that it fits the result's view `seen`; None if one cannot be."""
  found = []
  for one in operands:
    narrow = views.broadcast_view(_find_held(one), held, seen)
    if narrow is None and isinstance(one, Value):
      return None
    found.append(narrow or seen)
  return found


def _choose(walk, operands, ways):
  """Chooses the way that needs the fewest new reshapes; None if there is none."""
  moving = [(n, walk.find_views(one)) for n, one in enumerate(operands) if isinstance(one, Value)]
  return min(ways, key=lambda way: sum(way[n] not in now for n, now in moving), default=None)


def _reshape_constant(constant, held, seen):
  if constant.size == 1:  # converters know activations by constants that are scalars
    return constant.reshape(())
  if math.prod(seen) != constant.size:
    constant = np.broadcast_to(constant, held)
  return np.ascontiguousarray(constant.reshape(seen))


def _combine_truths(op: str, decisive: bool):
  """Folds a logical operation where one operand is constant."""

  def rule(walk: Walk, equation, a, b):
    for one, other in ((a, b), (b, a)):
      if not isinstance(one, Value) and len(set(np.ravel(one).tolist())) == 1:
        if bool(np.ravel(one)[0]) != decisive:
          return other
        return np.full(equation.outvars[0].aval.shape, decisive)
    return combine(walk, op, [a, b], equation.outvars[0].aval.shape)

  return rule


def _keep(walk: Walk, equation, a, *_):
  return a


def _cast(walk: Walk, equation, a):
  if a.tensor.dtype == 'bool' and equation.params['new_dtype'] != np.bool_:
    return combine(walk, 'select', [a, np.float32(1), np.float32(0)], a.shape)
  return a


def _power(walk: Walk, equation, a):
  exponent = equation.params['y']
  if exponent < 1:
    walk.refuse(f'has a whole power of {exponent}; wanted 1 or more')
  found = a
  for _ in range(exponent - 1):
    found = combine(walk, 'mul', [found, a], a.shape)
  return found


def _select(walk: Walk, equation, which, *cases):
  if len(cases) != 2:
    walk.refuse(f'selects one of {len(cases)} cases; wanted two')
  if not isinstance(which, Value) and np.unique(which).size == 1:
    return cases[int(np.ravel(which)[0])]
  return combine(walk, 'select', [which, cases[1], cases[0]], equation.outvars[0].aval.shape)


def _assume_finite(walk: Walk, equation, a):
  # Asked of the largest of some logits, to keep infinities out of a softmax.
  return np.ones(a.shape, bool)


# Views, and operations that move values.


def _view(walk: Walk, equation, a, *_):
  return Value(a.tensor, equation.outvars[0].aval.shape)


def _spread(walk: Walk, equation, a):
  shape = equation.outvars[0].aval.shape
  held = [1] * len(shape)
  for axis, size in zip(equation.params['broadcast_dimensions'], a.held, strict=True):
    held[axis] = size
  return Value(a.tensor, shape, tuple(held))


def _transpose(walk: Walk, equation, a):
  return permute(walk, a, equation.params['permutation'])


def permute(walk: Walk, a: Value, order: Sequence[int]) -> Value:
  """Reorders the axes of an array."""
  shape = tuple(a.shape[axis] for axis in order)
  moved = [axis for axis in order if a.shape[axis] > 1]
  runs = []  # axes that stay beside each other are one
  for axis in moved:
    before = max((n for n in range(axis) if a.shape[n] > 1), default=None)
    if runs and runs[-1][-1] == before:
      runs[-1].append(axis)
    else:
      runs.append([axis])
  if len(runs) <= 1:
    return Value(a.tensor, shape)
  if len(runs) > 4:
    walk.refuse(f'transposes {a.shape} to {order}, which four axes cannot say')
  old = sorted(runs)
  sizes = [math.prod(a.shape[axis] for axis in run) for run in old]
  places = [old.index(run) for run in runs]
  lead = 4 - len(runs)
  if walk.apart and a.shape[0] == 1:
    lead = max(lead, 1)
  seen = walk.see(a, ((1,) * lead + tuple(sizes))[-4:])
  turned = walk.add('transpose', seen, order=(*range(lead), *(lead + place for place in places)))
  return Value(turned, shape)


def _slice(walk: Walk, equation, a):
  params = equation.params
  strides = params['strides'] or (1,) * len(a.shape)
  return _cut(walk, a, params['start_indices'], params['limit_indices'], strides)


def _cut(walk: Walk, a: Value, start, limit, strides) -> Value:
  """Slices an array; each axis that is cut must be the outer part of one of the four."""
  shape = tuple(-(-(b - x) // s) for x, b, s in zip(start, limit, strides, strict=True))
  cut = {axis: strides[axis] > 1 for axis, size in enumerate(a.shape) if shape[axis] != size}
  if not cut:
    return Value(a.tensor, shape)
  parts = _find_parts(walk, [a], cut)
  seen = views.view(a.shape, parts)
  begin, end, step = [0] * 4, list(seen), [1] * 4
  for axis in cut:
    place = views.find_part(a.shape, parts, axis)
    inner = seen[place] // a.shape[axis]
    begin[place], end[place], step[place] = start[axis] * inner, limit[axis] * inner, strides[axis]
  cut_out = walk.add(
    'slice', walk.see(a, seen), start=tuple(begin), limit=tuple(end), stride=tuple(step)
  )
  return Value(cut_out, shape)


def _find_parts(walk: Walk, arrays: Sequence, axes: dict[int, bool]) -> views.Parts:
  """Finds the view of arrays of one rank in which these axes can be sliced, with fewest reshapes.

  Args:
    axes: for each axis, whether no other may be merged with it.
  """
  (shape, *_) = (one.shape for one in arrays)

  def accept(parts):
    found = [
      places
      for one in arrays
      if len(places := {_place(one.shape, parts, axis, alone) for axis, alone in axes.items()})
    ]
    return all(None not in places and len(places) == len(axes) for places in found)

  ways = [
    (parts, [views.view(one.shape, parts) for one in arrays])
    for parts in walk.list_parts(shape)
    if accept(parts)
  ]
  now = [walk.find_views(one) if isinstance(one, Value) else None for one in arrays]
  best = min(
    ways,
    key=lambda way: sum(
      seen not in views_ for seen, views_ in zip(way[1], now, strict=True) if views_
    ),
    default=None,
  )
  if best is None:
    walk.refuse(f'takes apart axes {list(axes)} of {shape}, which four axes cannot say')
  return best[0]


def _place(shape, parts, axis, alone):
  return views.find_part(shape, parts, axis, alone=alone)


def _concatenate(walk: Walk, equation, *arrays):
  return _join(walk, arrays, equation.params['dimension'])


def _join(walk: Walk, arrays: Sequence, axis: int) -> Value:
  arrays = [one if isinstance(one, Value) else np.asarray(one) for one in arrays]
  arrays = [one for one in arrays if one.shape[axis]]
  if len(arrays) == 1:
    return arrays[0]
  total = sum(one.shape[axis] for one in arrays)
  shape = (*arrays[0].shape[:axis], total, *arrays[0].shape[axis + 1 :])
  parts = _find_parts(walk, [*arrays, np.broadcast_to(np.float32(0), shape)], {axis: False})
  seen = [
    walk.see(one, views.view(one.shape, parts))
    if isinstance(one, Value)
    else np.ascontiguousarray(one.reshape(views.view(one.shape, parts)))
    for one in arrays
  ]
  place = views.find_part(shape, parts, axis)
  return Value(walk.add('concat', *seen, axis=place), shape)


def _pad(walk: Walk, equation, a, value):
  pads = equation.params['padding_config']
  if any(inner for _, _, inner in pads):
    walk.refuse('puts zeros between values, which a graph does not say')
  start = [max(-low, 0) for low, _, _ in pads]
  limit = [n - max(-high, 0) for n, (_, high, _) in zip(a.shape, pads, strict=True)]
  a = _cut(walk, a, start, limit, [1] * len(pads))
  return pad(walk, a, [(max(low, 0), max(high, 0)) for low, high, _ in pads], float(value))


def pad(walk: Walk, a: Value, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Value:
  """Pads the axes of an array with a value."""
  axes = {axis: False for axis, pair in enumerate(pads) if any(pair)}
  if not axes:
    return a
  shape = tuple(n + sum(pair) for n, pair in zip(a.shape, pads, strict=True))
  parts = _find_parts(walk, [a, np.broadcast_to(np.float32(0), shape)], axes)
  seen, around = views.view(a.shape, parts), [(0, 0)] * 4
  for axis in axes:
    place = views.find_part(a.shape, parts, axis)
    inner = seen[place] // a.shape[axis]
    around[place] = tuple(n * inner for n in pads[axis])
  return Value(walk.add('pad', walk.see(a, seen), pads=tuple(around), value=value), shape)


def _gather(walk: Walk, equation, a, indices):
  """Gathers by constant indices: slices that are concatenated."""
  if isinstance(indices, Value | Counter):
    walk.refuse('chooses by what it sees which values it reads, which a graph cannot say')
  sizes, shape = equation.params['slice_sizes'], equation.outvars[0].aval.shape
  batch = equation.params['dimension_numbers'].operand_batching_dims
  (axis,) = [n for n, size in enumerate(sizes) if size != a.shape[n] and n not in batch] or [0]
  # The same gather of each value's number along that axis tells where results come from.
  numbers = np.broadcast_to(
    np.arange(a.shape[axis]).reshape([-1 if n == axis else 1 for n in range(len(sizes))]), a.shape
  )
  (found,) = fold(equation, [np.ascontiguousarray(numbers), indices])
  # All axes of the result along which the number stays are the operand's others, in order.
  varies = [n for n in range(len(shape)) if (found != np.take(found, [0], n)).any()]
  taken = found[tuple(slice(None) if n in varies else 0 for n in range(len(shape)))].ravel()
  rows = [
    _cut(walk, a, *_bound(a.shape, axis, int(number)), (1,) * len(a.shape)) for number in taken
  ]
  return Value(_join(walk, rows, axis).tensor, shape)


def _bound(shape, axis, number):
  start, limit = [0] * len(shape), list(shape)
  start[axis], limit[axis] = number, number + 1
  return start, limit


# Reductions.


def _reduce(op: str):
  def rule(walk: Walk, equation, a):
    return reduce(walk, op, a, equation.params['axes'])

  return rule


def reduce(walk: Walk, op: str, a: Value, axes: Sequence[int]) -> Value:
  """Reduces some axes of an array and drops them."""
  shape = tuple(n for axis, n in enumerate(a.shape) if axis not in axes)
  if all(a.shape[axis] == 1 for axis in axes):
    return Value(a.tensor, shape)
  ways = []
  for parts in walk.list_parts(a.shape):
    whole = [views.is_whole(a.shape, part, axes) for part in parts]
    if None not in whole:
      ways.append((views.view(a.shape, parts), tuple(n for n, one in enumerate(whole) if one)))
  now = walk.find_views(a)
  way = min(ways, key=lambda way: way[0] not in now, default=None)
  if way is None:
    walk.refuse(f'reduces axes {axes} of {a.shape}, which four axes cannot say')
  return Value(walk.add(op, walk.see(a, way[0]), axes=way[1]), shape)


def _cumulate(walk: Walk, equation, a):
  axis = equation.params['axis']
  if a.shape[axis] == 1:
    return a
  if equation.params['reverse']:
    walk.refuse('sums from the end on, for which there is no rule')
  parts = _find_parts(walk, [a], {axis: True})
  place = views.find_part(a.shape, parts, axis)
  return Value(walk.add('cumsum', walk.see(a, views.view(a.shape, parts)), axis=place), a.shape)


# Products.


def _multiply(walk: Walk, equation, a, b):
  """Multiplies matrices; with constant weights it is a 1 x 1 convolution."""
  ((left, right), (left_batch, right_batch)) = equation.params['dimension_numbers']
  shape = equation.outvars[0].aval.shape
  if isinstance(b, Value) and isinstance(a, Value):
    return _multiply_values(walk, (a, left, left_batch), (b, right, right_batch), shape)
  if left_batch:
    walk.refuse('has a matrix of weights for each of several values, for which there is no rule')
  if isinstance(a, Value):
    return Value(_project(walk, a, left, b, right).tensor, shape)
  y = _project(walk, b, right, a, left)
  free, rank = len(np.shape(a)) - len(left), len(shape)
  moved = Value(y.tensor, (*shape[free:], *shape[:free]))
  return permute(walk, moved, (*range(rank - free, rank), *range(rank - free)))


def _project(walk: Walk, x: Value, axes, weights, contracted) -> Value:
  """Multiplies the contracted axes of x by a matrix."""
  rest = [axis for axis in range(len(x.shape)) if axis not in axes]
  x = permute(walk, x, (*rest, *axes))
  weights = np.moveaxis(np.asarray(weights, np.float32), contracted, range(len(contracted)))
  channels = math.prod(weights.shape[: len(contracted)])
  matrix = weights.reshape(channels, -1)
  rows = Value(x.tensor, (*x.shape[: len(rest)], channels))
  seen = x.tensor.shape
  if seen[3] != channels:
    ways = (views.view(rows.shape, parts) for parts in walk.list_parts(rows.shape))
    seen = next(one for one in ways if one[3] == channels)
  y = walk.add('conv', walk.see(rows, seen), matrix[None, None], **_PLAIN, groups=1)
  return Value(y, (*rows.shape[:-1], matrix.shape[1]))


_PLAIN = {'stride': (1, 1), 'pads': ((0, 0), (0, 0))}


def _multiply_values(walk: Walk, one, other, shape) -> Value:
  (a, left, left_batch), (b, right, right_batch) = one, other
  a = _make_matrices(walk, a, left_batch, left, last=True)
  b = _make_matrices(walk, b, right_batch, right, last=False)
  return Value(walk.add('matmul', walk.see(*a), walk.see(*b)), shape)


def _make_matrices(walk: Walk, a: Value, batch, contracted, *, last: bool):
  """Reorders axes to batch, rows, columns, and views them as [N, 1, rows, columns]."""
  free = [n for n in range(len(a.shape)) if n not in (*batch, *contracted)]
  inner = (*free, *contracted) if last else (*contracted, *free)
  a = permute(walk, a, (*batch, *inner))
  sizes = [math.prod(a.shape[: len(batch)])]
  middle = len(batch) + len(free if last else contracted)
  sizes += [1, math.prod(a.shape[len(batch) : middle]), math.prod(a.shape[middle:])]
  return a, tuple(sizes)


def _convolve(walk: Walk, equation, x, kernel):
  params = equation.params
  groups, stride = params['feature_group_count'], params['window_strides']
  pads = [tuple(int(n) for n in pair) for pair in params['padding']]
  kernel, shape = np.asarray(kernel, np.float32), equation.outvars[0].aval.shape
  if len(x.shape) == 4:
    seen = walk.see(x, tuple(x.shape))
    return Value(_convolve_images(walk, seen, kernel, stride, pads, groups), shape)
  return _convolve_video(walk, x, kernel, stride[1:], pads, groups, shape)


def _convolve_channels(walk: Walk, equation, x, kernel):
  """Writes ops.depthwise_conv3d, of which a program holds one operation, whatever its form."""
  plan, shape = equation.params['plan'], equation.outvars[0].aval.shape
  kernel = np.asarray(kernel, np.float32)[..., None, :]
  return _convolve_video(walk, x, kernel, plan.stride, plan.pads, plan.x[-1], shape)


def _convolve_images(walk, images: Tensor, kernel, stride, pads, groups) -> Tensor:
  how = {'stride': tuple(stride), 'pads': tuple(pads), 'groups': groups}
  return walk.add('conv', images, kernel, **how)


def _convolve_video(walk: Walk, x: Value, kernel, stride, pads, groups, shape) -> Value:
  """Convolves frames, or pixels along time, or both as a sum over the kernel's frames."""
  b, t, h, w, c = x.shape
  kt, kh, kw = kernel.shape[:3]
  if kt == 1:
    images = walk.see(x, (b * t, h, w, c))
    return Value(_convolve_images(walk, images, kernel[0], stride, pads[1:], groups), shape)
  if (kh, kw, *stride) == (1, 1, 1, 1) and not any(map(any, pads[1:])):
    rows = walk.see(x, (b, t, h * w, c))
    along = _convolve_images(walk, rows, kernel[:, 0], (1, 1), (pads[0], (0, 0)), groups)
    return Value(along, shape)
  x = pad(walk, x, [(0, 0), pads[0], (0, 0), (0, 0), (0, 0)])
  total = None
  for i in range(kt):
    frames = _cut(walk, x, (0, i, 0, 0, 0), (b, i + shape[1], h, w, c), (1,) * 5)
    images = walk.see(frames, (b * shape[1], h, w, c))
    y = Value(_convolve_images(walk, images, kernel[i], stride, pads[1:], groups), shape)
    total = y if total is None else combine(walk, 'add', [total, y], shape)
  return total


# Named functions of the package for which runtimes have kernels.


def _call_unary(op: str):
  def rule(walk: Walk, equation, a):
    return combine(walk, op, [a], a.shape)

  return rule


def _average(walk: Walk, equation, x):
  """Writes ops.average_pool, which does not count its padding."""
  plan = next(find(equation.params['jaxpr'].jaxpr, 'depthwise_convolve')).params['plan']
  return _pool(walk, 'average_pool', equation, x, plan.taps[1:], plan.stride, plan.pads[1:])


def _largest(walk: Walk, equation, x):
  """Writes ops.max_pool, which takes the largest of a window's slices along rows, then columns."""
  window, stride, pads = [1, 1], [1, 1], [(0, 0), (0, 0)]
  for one in find(equation.params['jaxpr'].jaxpr, 'slice'):
    shape, params = one.invars[0].aval.shape, one.params
    strides = params['strides'] or (1,) * 5
    limits = zip(params['start_indices'], params['limit_indices'], shape, strides, strict=True)
    for axis, (start, limit, size, step) in enumerate(limits):
      if (start, limit, step) != (0, size, 1):
        window[axis - 2] = max(window[axis - 2], start + 1)
        stride[axis - 2] = step
  for one in find(equation.params['jaxpr'].jaxpr, 'pad'):
    for axis, (low, high, _) in enumerate(one.params['padding_config'][2:4]):
      pads[axis] = pads[axis][0] + low, pads[axis][1] + high
  return _pool(walk, 'max_pool', equation, x, window, stride, pads)


def _pool(walk: Walk, op: str, equation, x, window, stride, pads) -> Value:
  b, t, h, w, c = x.shape
  how = {
    'window': tuple(window),
    'stride': tuple(stride),
    'pads': tuple((int(low), int(high)) for low, high in pads),
  }
  pooled = walk.add(op, walk.see(x, (b * t, h, w, c)), **how)
  return Value(pooled, equation.outvars[0].aval.shape)


def _slide(walk: Walk, equation, x):
  """Writes ops.sliding_mean: windows in space, then in time."""
  b, t, h, w, c = x.shape
  _, after, rows, columns, _ = shape = equation.outvars[0].aval.shape
  place = {'stride': (1, 1), 'pads': ((0, 0), (0, 0))}
  images = walk.see(x, (b * t, h, w, c))
  if (rows, columns) == (1, 1):
    y = walk.add('mean', images, axes=(1, 2))
  else:
    y = walk.add('average_pool', images, window=(h - rows + 1, w - columns + 1), **place)
  y = Value(y, (b, t, rows, columns, c))
  if after == t:
    return Value(y.tensor, shape)
  over = walk.see(y, (b, t, rows * columns, c))
  return Value(walk.add('average_pool', over, window=(t - after + 1, 1), **place), shape)


_NAMED = {
  'average_pool': _average,
  'max_pool': _largest,
  'sliding_mean': _slide,
  'silu': _call_unary('silu'),
  'relu': _call_unary('relu'),
  'relu6': _call_unary('relu6'),
  'remainder': _remainder,
}
_UNARY = {
  **{name: name for name in ('logistic', 'tanh', 'exp', 'log', 'sin', 'cos', 'sqrt', 'rsqrt')},
  **{name: name for name in ('neg', 'abs', 'sign', 'floor', 'not')},
}
_BINARY = {
  **{name: name for name in ('add', 'sub', 'mul', 'div', 'max', 'min', 'pow')},
  **{'eq': 'equal', 'ne': 'not_equal', 'gt': 'greater', 'ge': 'greater_equal'},
  **{'lt': 'less', 'le': 'less_equal', 'add_any': 'add'},
}
_PLAIN_RULES = {
  **{name: _pointwise(op) for name, op in {**_UNARY, **_BINARY}.items()},
  'square': lambda walk, equation, a: combine(walk, 'mul', [a, a], a.shape),
  'integer_pow': _power,
  'and': _combine_truths('and', False),
  'or': _combine_truths('or', True),
  'select_n': _select,
  'is_finite': _assume_finite,
  'convert_element_type': _cast,
  **dict.fromkeys(('stop_gradient', 'copy', 'copy_p', 'reduce_precision'), _keep),
  **dict.fromkeys(('reshape', 'squeeze', 'expand_dims'), _view),
  'broadcast_in_dim': _spread,
  'transpose': _transpose,
  'slice': _slice,
  'concatenate': _concatenate,
  'pad': _pad,
  'gather': _gather,
  'reduce_sum': _reduce('sum'),
  'reduce_max': _reduce('peak'),
  'cumsum': _cumulate,
  'dot_general': _multiply,
  'conv_general_dilated': _convolve,
  'depthwise_convolve': _convolve_channels,
}
# These take values that are still to be broadcast.
_SPREADING = {*_UNARY, *_BINARY, 'select_n', 'convert_element_type', 'broadcast_in_dim', 'square'}
RULES = Rules(_CONTROL, _NAMED, _COUNTING, _PLAIN_RULES, _SPREADING)
