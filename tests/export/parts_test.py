"""Parts of networks as graphs and files: each answers as its module does, alone and in copies."""

import functools

import jax
import numpy as np
import pytest

from movinet_jax import export, layers, models, timing
from movinet_jax.export import as_jax, formats, states
from movinet_jax.export.interface import fit_image
from movinet_jax.models.movinet import Layer
from nas.spaces import movinet

SMALL = {
  **{'stem': 8, 'widths': (8, 16), 'strides': (1, 2), 'depth': 2, 'project': 16},
  **{'kernels': ((1, 3, 3), (5, 1, 1)), 'expansions': (1.0, 2.0), 'head': 8},
  **{'multipliers': (1.0,), 'stem_multipliers': (1.0,), 'se': 'search'},
  **{'frames': 3, 'resolution': 16, 'frame_stride': 1},
}
STREAM = {'conv': '2plus1d', 'se_kind': '2plus3d', 'causal': True}
SHAPE = 8, 8
STEM, HEAD = movinet.Part('stem', 3, 8, SHAPE), movinet.Part('head', 16, 16, SHAPE)
WIDER = movinet.Part('layer', 8, 16, SHAPE, Layer((5, 1, 1), 16), 2)
AS_IT_IS = movinet.Part('layer', 16, 16, SHAPE, Layer((1, 3, 3), 32, False))
CALLS = 3


@functools.cache
def plan(part, causal=True, batch=1, frames=1):
  """(module, variables, shape, the part as it is exported)."""
  space = movinet.make_space(**SMALL, **(STREAM if causal else {}))
  module, shape, _ = space.make_bench(5, batch=batch, frames=frames).make_part(part)
  x = jax.ShapeDtypeStruct(shape, np.float32)
  shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), x)
  variables = timing.draw_like(shapes)
  return module, variables, shape, export.plan_part(module, variables, shape)


def make_frames(shape):
  return np.random.default_rng(0).uniform(size=(CALLS, *shape)).astype(np.float32)


def answer(module, variables, frames):
  """What a module makes of frames, call after call, and its state in the end."""
  shape = frames[0].shape
  has_state = bool(jax.eval_shape(module.apply, variables, frames[0])[1])
  state = layers.init_state(module, shape[0], shape[2:]) if has_state else None
  found, step = [], jax.jit(module.apply)
  for x in frames:
    y, state = step(variables, x, state)
    found.append(np.asarray(y).ravel())
    state = state or None
  return np.stack(found), state


def run(program, step, frames):
  """The same of a graph, by a function of its inputs to its outputs, both by name."""
  (given,) = set(program.graph.inputs) - set(program.states)
  held = {name: np.zeros(program.graph.inputs[name].shape, np.float32) for name in program.states}
  found = []
  for x in frames:
    outputs = step({given: x.reshape(program.graph.inputs[given].shape), **held})
    held = {name: outputs[after] for name, after in program.states.items()}
    found.append(np.asarray(outputs[next(iter(program.graph.outputs))]).ravel())
  return np.stack(found), held


def assert_close(found, wanted):
  assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
  ('part', 'options'),
  [
    (STEM, {}),
    (WIDER, {}),
    (AS_IT_IS, {}),
    (HEAD, {}),
    (WIDER, {'batch': 2, 'frames': 3}),
    (WIDER, {'causal': False, 'frames': 3}),
  ],
)
def test_a_part_answers_as_its_module_does(part, options):
  module, variables, shape, planned = plan(part, **options)
  program, frames = planned.program, make_frames(shape)
  emitted = jax.jit(as_jax.emit(program.graph))

  def step(inputs):
    outputs = emitted(*(inputs[name] for name in program.graph.inputs))
    return dict(zip(program.graph.outputs, outputs, strict=True))

  wanted, state = answer(module, variables, frames)
  found, held = run(program, step, frames)
  assert_close(found, wanted)
  for name, value in states.pack(state or {}).items():
    if name in held:
      assert_close(np.ravel(held[name]), np.ravel(value))
  causal = options.get('causal', True)
  assert bool(program.states) == (causal and part in (WIDER, HEAD))


@pytest.mark.parametrize('name', ['onnx', 'tflite'])
@pytest.mark.parametrize('part', [STEM, WIDER])
def test_copies_in_a_file_have_inputs_states_and_weights_of_their_own(part, name, tmp_path):
  module, variables, shape, planned = plan(part)
  form, twice = formats.load(name), planned.repeat(2)
  path = tmp_path / form.FILE
  interface = form.write(twice, path)
  session = form.make_session(path, interface, 1, 1)
  program, frames = planned.program, make_frames(shape)
  (given,) = set(program.graph.inputs) - set(program.states)
  after = next(iter(program.graph.outputs))
  turned = name == 'onnx' and part is not STEM  # pixels are [N, H, W, C] in all formats
  feed = {one: array.make_zeros() for one, array in interface.inputs.items()}
  found = []
  for x, other in zip(frames, frames[::-1], strict=True):
    for one, values in ((given, x), (f'{given}__1', other)):
      feed[one] = np.ascontiguousarray(values[0].transpose(0, 3, 1, 2) if turned else values[0])
    outputs = session._run(feed)
    feed |= {one: outputs[following] for one, following in interface.states.items()}
    read = [_read(outputs[one]) for one in (after, f'{after}__1')]
    found.append([y.transpose(0, 2, 3, 1) if name == 'onnx' else y for y in read])
  wanted, _ = answer(module, variables, frames)
  assert_close(np.stack([one.ravel() for one, _ in found]), wanted)
  other, _ = answer(module, variables, frames[::-1])
  mine = np.stack([one.ravel() for _, one in found])
  assert 0 < np.abs(mine - other).max() < 0.1 * np.abs(other).max()  # its weights differ a little
  once, both = (one.program.graph.count_ops() for one in (planned, twice))
  assert both == {op: 2 * n for op, n in once.items()}


def _read(value):
  return value.numpy() if hasattr(value, 'numpy') else np.asarray(value)


@pytest.mark.parametrize('name', ['onnx', 'tflite', 'stablehlo'])
def test_a_call_that_is_repeated_goes_on_with_its_states(name, tmp_path):
  """What is timed is a stream, and a new one: after five calls it has seen five frames."""
  model = models.create('movinet', 5, spec=models.find_family('movinet').SMALL['stream-3d'])
  source = export.plan(model, timing.draw_weights(model), (16, 16))
  form = formats.load(name)
  path = tmp_path / form.FILE
  session = form.make_session(path, form.write(source, path), 1, 1)
  frame = np.full(source.shape, 0.5, np.float32)
  for _ in range(3):
    session(frame)
  call = session.make_call({'image': fit_image(session.interface, frame, 1)})
  for _ in range(5):
    call()
  counts = [
    value for key, value in session.read_states().items() if key.endswith(('calls', 'count'))
  ]
  assert [int(one.ravel()[0]) for one in counts] == [5] * len(counts)
  assert counts
