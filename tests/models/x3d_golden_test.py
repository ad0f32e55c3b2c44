"""X3Ds give the numbers of the PyTorch reference: logits, stages, gradients, statistics."""

import ast
import functools
import pathlib

import jax
import numpy as np
import optax
import pytest

import movinet_jax as mj
from movinet_jax import convert
from movinet_jax.convert.families import x3d as names
from movinet_jax.models.x3d import make_spec

FOLDER = pathlib.Path(__file__).parents[1] / 'golden' / 'x3d'
CASES = sorted(path.stem for path in FOLDER.glob('*.npz'))
TOLERANCE = 1e-5  # of the largest value


def make_model(config: dict, **options):
  """The network that `create_x3d(**config)` makes."""
  factors = {
    'width': config.get('width_factor', 2.0),
    'depth': config.get('depth_factor', 2.2),
    'bottleneck': config.get('bottleneck_factor', 2.25),
  }
  clip = config['input_clip_length'], config['input_crop_size'], 1
  spec = make_spec(*clip, **factors, hidden=config.get('head_dim_out', 2048))
  return mj.create('x3d', config.get('model_num_class', 400), spec=spec, **options)


def load(name, **options):
  path = FOLDER / f'{name}.npz'
  with np.load(path) as arrays:
    golden = {k: arrays[k] for k in arrays.files if not k.startswith('sd/')}
    weights = {k: arrays[k] for k in arrays.files if k.startswith('sd/')}
  model = make_model(ast.literal_eval(str(golden['config'])), **options)
  arrays = convert.read_arrays(path)
  variables, report = convert.fill(
    {k: v for k, v in arrays.items() if k in weights},
    jax.eval_shape(lambda: mj.init(model, jax.random.key(0), (1, 1, 32, 32, 3))),
    names,
  )
  assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
  return golden, model, variables


def to_ndhwc(x):
  return np.moveaxis(x, 1, -1)


def assert_close(ours, theirs, what='', tolerance=TOLERANCE):
  error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
  assert error < tolerance, f'{what}: {error}'


def test_there_are_cases():
  assert len(CASES) == 2


@pytest.mark.parametrize('name', CASES)
def test_logits_and_stages(name):
  golden, model, variables = load(name)
  apply = functools.partial(model.apply, capture_intermediates=True, mutable=['intermediates'])
  (logits, _), extra = jax.jit(apply)(variables, to_ndhwc(golden['input_NCTHW']))
  assert_close(logits, golden['logits_f64'])
  outputs = extra['intermediates']
  assert_close(outputs['stem']['__call__'][0][0], to_ndhwc(golden['act/block0']))
  for i, stage in enumerate(model.spec.stages):
    last = outputs[f'stage{i}_layer{stage.depth - 1}']['__call__'][0][0]
    assert_close(last, to_ndhwc(golden[f'act/block{i + 1}']), f'stage {i}')


def test_a_training_step():
  """Loss, gradients and running statistics of a batch."""
  golden, model, variables = load('tiny_w1_d1_4x32')
  video, label = to_ndhwc(golden['input_NCTHW']), golden['train/labels']

  @jax.jit
  def learn(params):
    state = {**variables, 'params': params}
    (logits, _), new = model.apply(state, video, train=True, mutable=['batch_stats'])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
    return loss, (logits, new['batch_stats'])

  (loss, (logits, stats)), grads = jax.value_and_grad(learn, has_aux=True)(variables['params'])
  assert loss == pytest.approx(float(golden['train/loss']), rel=1e-5)
  assert_close(logits, golden['train/logits'], tolerance=1e-4)
  wanted = {f'sd/{k[5:]}': v for k, v in golden.items() if k.startswith('grad/')}
  filled, report = convert.fill(wanted, {'params': grads}, names)
  assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
  assert len(wanted) == 147
  for (path, ours), theirs in zip(
    jax.tree_util.tree_leaves_with_path(grads),
    jax.tree.leaves(filled['params']),
    strict=True,
  ):
    scale = np.abs(theirs).max()
    assert np.abs(ours - theirs).max() < 1e-3 * scale + 1e-6, path
  after = {
    f'sd/{k.removeprefix("train_after/")}': v
    for k, v in golden.items()
    if k.startswith('train_after/')
  }
  filled, report = convert.fill(after, {'batch_stats': stats}, names)
  assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
  for ours, theirs in zip(
    jax.tree.leaves(stats), jax.tree.leaves(filled['batch_stats']), strict=True
  ):
    assert_close(ours, theirs, tolerance=1e-4)
