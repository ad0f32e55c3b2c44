"""The search step: the same on any layout of devices, one program for a study."""

import functools
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from movinet_jax.train import losses, mesh, optimizers, steps
from nas import oneshot
from nas.objective import Objective, absolute_reward
from nas.spaces import movinet
from nas.supernet import Supernet
from tests.train import toy

CLASSES, CLIP = 4, (8, 16, 16)
LOSS = losses.make_loss('softmax', label_smoothing=0.1)
OPTIMIZER = {'name': 'sgd', 'momentum': 0.9, 'clip_norm': 1.0}


@functools.cache
def make_net(**fields):
  space = movinet.make_space(
    **{'stem': 8, 'widths': (8, 16), 'strides': (1, 2), 'depth': 2, 'project': 16},
    **{'kernels': ((1, 3, 3), (3, 1, 1)), 'expansions': (1.0, 2.0), 'head': 16},
    **{'multipliers': (1.0, 2.0), 'stem_multipliers': (1.0,), **fields},
  )
  return Supernet(space, CLASSES)


def make_cost(net, kind='macs'):
  return movinet.make_cost_table(net.space, kind, num_classes=CLASSES, clip=CLIP)


def make_settings(net, **given):
  middle = sum(make_cost(net).bounds) / 2
  given = {'target': middle, 'total_steps': 8, 'learning_rate': 0.1, **given}
  given = {'policy_delay': 0.0, 'filters_warmup': 0.0, 'ops_warmup': 0.0, **given}
  return oneshot.make_settings(net.space.space, **given)


def make_batch(number, clips=16, held_out=24):
  def draw(key, count):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(key), number))
    video = jax.random.randint(keys[0], (count, *CLIP, 3), 0, 256).astype(jnp.uint8)
    label = jax.random.randint(keys[1], (count,), 0, CLASSES)
    return {'video': video, 'label': label, 'mask': np.ones(count, np.float32)}

  return jax.device_get({**draw(0, clips), 'valid': draw(1, held_out)})


@functools.cache
def make_step(candidates=8, **options):
  net = make_net(**({'causal': True} if options.get('subclips') else {}))
  step = oneshot.make_search_step(
    net,
    Objective(make_cost(net)),
    LOSS,
    mesh.make_mesh(),
    candidates=candidates,
    optimizer=OPTIMIZER,
    **options,
  )
  place = mesh.make_mesh()
  shardings = mesh.replicated(place), mesh.split(place)
  return net, jax.jit(step, in_shardings=shardings)


def run(step, state, count=3):
  found, state = [], jax.device_put(state, mesh.replicated(mesh.make_mesh()))
  for number in range(count):
    state, metrics = step(state, make_batch(number))
    found.append(jax.device_get(metrics))
  return state, found


def test_a_step_by_hand():
  """Each candidate alone, with weights cut out of the supernet."""
  net, step = make_step()
  settings = make_settings(net, weight_decay=0.01)
  before = oneshot.make_state(net, settings, OPTIMIZER)
  # ReZero scales of 0 would hide all branches.
  params = jax.tree_util.tree_map_with_path(
    lambda path, x: x + 0.5 if path[-2].key == 'rezero' else x, before.params
  )
  before = before.replace(params=params)
  start = jax.device_get(before)
  batch = make_batch(0)
  after, metrics = step(before, batch)
  choices = np.asarray(metrics['samples']['choices'])

  @jax.jit
  @jax.value_and_grad
  def learn_alone(params, choices, clips):
    logits, _ = net.apply(params, steps.to_float(clips['video']), choices)
    return LOSS(logits, clips['label'], clips['mask'])

  def decay(path, gradient, weight):
    used = (gradient != 0) & optimizers.is_decayed(path)
    return gradient + 0.01 * weight * used

  grads, values = [], []
  for row in range(8):
    clips = {k: batch[k][2 * row : 2 * row + 2] for k in ('video', 'label', 'mask')}
    value, gradient = learn_alone(start.params, choices[row], clips)
    grads.append(jax.tree_util.tree_map_with_path(decay, gradient, start.params))
    values.append(value)
  np.testing.assert_allclose(metrics['loss'], np.mean(values), rtol=1e-5)
  mean = jax.tree.map(lambda *g: sum(g) / 8, *grads)
  norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(mean)))
  np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-4)
  # The reward is that of the new weights on held-out clips, and of the exact cost.
  held_out, apply = batch['valid'], jax.jit(net.apply)
  for row in range(8):
    video = held_out['video'][3 * row : 3 * row + 3]
    logits, _ = apply(after.params, steps.to_float(video), choices[row])
    right = np.argmax(logits, -1) == held_out['label'][3 * row : 3 * row + 3]
    assert metrics['samples']['accuracy'][row] == pytest.approx(right.mean())
  ratio = make_cost(net).count(choices) / float(settings['target'])
  wanted = absolute_reward(metrics['samples']['accuracy'], ratio, -0.1)
  np.testing.assert_allclose(metrics['samples']['reward'], wanted, rtol=1e-5)


def test_one_program_serves_a_study():
  """Seeds, targets, weights of cost and schedules are numbers of the state."""
  net, step = make_step()
  run(step, oneshot.make_state(net, make_settings(net), OPTIMIZER))
  before, rewards = step._cache_size(), []
  for given in ({}, {'seed': 5}, {'beta': -2.0}, {'target': 5e5}, {'policy_rate': 0.5}):
    state = oneshot.make_state(net, make_settings(net, **given), OPTIMIZER)
    state, found = run(step, state)
    rewards.append(found[-1]['samples']['reward'])
  assert len({r.tobytes() for r in rewards[:4]}) == 4
  assert step._cache_size() == before


def whole(tree):
  return np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)])


def test_layouts_of_devices_agree(tmp_path):
  """1 x 8, 2 x 4 and 8 x 1: the same architectures, the same search."""
  runs = {}
  for devices in (1, 2, 8):
    path = tmp_path / f'{devices}.npz'
    process = toy.start('tests.nas.oneshot_test', path, devices=devices)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    with np.load(path) as file:
      runs[devices] = dict(file)
  for devices in (2, 8):
    np.testing.assert_array_equal(runs[1]['choices'], runs[devices]['choices'])
    np.testing.assert_array_equal(runs[1]['accuracy'], runs[devices]['accuracy'])
    for name in ('params', 'policy'):
      a, b = runs[1][name], runs[devices][name]
      assert np.linalg.norm(a - b) < 1e-6 * np.linalg.norm(a)
    assert runs[devices]['collectives_in_branches'] == 0
    assert 0 < runs[devices]['collectives'] <= 8


def find_collectives(text: str) -> tuple[int, int]:
  """Collectives of an HLO program: how many, and how many of them inside branches."""
  bodies = dict(
    re.findall(r'^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}', text, re.M | re.S)
  )
  pattern = (
    r'= \S+ (?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)'
  )
  branches = set(re.findall(r'branch_computations=\{([^}]*)\}', text))
  waiting = [n.strip(' %') for group in branches for n in group.split(',')]
  waiting += re.findall(r'(?:true|false)_computation=%?([\w.\-]+)', text)
  inside = set()
  while waiting:
    name = waiting.pop()
    if name in bodies and name not in inside:
      inside.add(name)
      waiting += [n for n in re.findall(r'%?([\w.\-]+)', bodies[name]) if n in bodies]
  counts = {name: len(re.findall(pattern, body)) for name, body in bodies.items()}
  return sum(counts.values()), sum(counts[name] for name in inside)


def test_the_reader_of_programs_finds_what_it_looks_for():
  """A mean inside a branch, planted."""
  text = (
    '%inner (p: f32[]) -> f32[] {\n  ROOT %r = f32[] all-reduce(%p)\n}\n\n'
    '%branch (p: f32[]) -> f32[] {\n  ROOT %c = f32[] call(%p), to_apply=%inner\n}\n\n'
    'ENTRY %main (p: f32[]) -> f32[] {\n  %a = f32[] all-reduce(%p)\n'
    '  ROOT %x = f32[] conditional(%p), branch_computations={%branch, %branch}\n}\n'
  )
  assert find_collectives(text) == (2, 1)


@pytest.mark.parametrize('boundary', ['truncated', 'exact'])
def test_clips_run_in_parts(boundary):
  net, step = make_step(subclips=2, boundary=boundary)
  state = oneshot.make_state(net, make_settings(net), OPTIMIZER)
  _, found = run(step, state)
  assert all(metrics['finite'] for metrics in found)


def test_memory_presses_on_temporal_kernels():
  net = make_net(causal=True)
  cost, memory = make_cost(net), make_cost(net, 'state_bytes')
  objective = Objective(cost, memory=memory)
  step = oneshot.make_search_step(
    net, objective, LOSS, mesh.make_mesh(), candidates=8, optimizer=OPTIMIZER
  )
  settings = make_settings(net, memory_target=1000.0, memory_beta=-0.5)
  state = oneshot.make_state(net, settings, OPTIMIZER)
  _, metrics = jax.jit(step)(state, make_batch(0))
  samples = jax.device_get(metrics['samples'])
  plain = absolute_reward(
    samples['accuracy'],
    cost.count(samples['choices']) / float(settings['target']),
    -0.1,
  )
  over = np.maximum(memory.count(samples['choices']) / 1000 - 1, 0)
  assert over.min() < over.max()
  np.testing.assert_allclose(samples['reward'], plain - 0.5 * over, rtol=1e-4)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'targt': 1}, "did you mean 'target'"),
    ({'target': 0}, 'target is 0'),
    ({'beta': 0.1}, 'beta is 0.1'),
    ({'warmup': 1.0}, 'warmup is 1.0'),
    ({'policy_delay': 0.1, 'filters_warmup': 0.25}, 'filters_warmup is 0.25'),
  ],
)
def test_settings_that_make_no_sense(given, message):
  with pytest.raises(ValueError, match=message):
    make_settings(make_net(), **given)


def test_counts_that_do_not_divide():
  net = make_net()
  objective = Objective(make_cost(net))
  with pytest.raises(ValueError, match='0 candidates cannot be shared'):
    oneshot.make_search_step(net, objective, LOSS, mesh.make_mesh(), candidates=0)
  _, step = make_step()
  state = oneshot.make_state(net, make_settings(net), OPTIMIZER)
  with pytest.raises(ValueError, match='9 clips cannot be dealt to 8 candidates'):
    step(state, make_batch(0, clips=9))


def main(path):
  """Three steps on however many devices there are, for `test_layouts_of_devices_agree`."""
  net, step = make_step()
  settings = make_settings(net, policy_rate=0.1)
  state = oneshot.make_state(net, settings, OPTIMIZER)
  program = step.lower(state, make_batch(0)).compile()
  state, found = run(step, state)
  total, inside = find_collectives(program.as_text())
  np.savez(
    path,
    choices=np.stack([m['samples']['choices'] for m in found]),
    accuracy=np.stack([m['samples']['accuracy'] for m in found]),
    params=whole(state.params),
    policy=whole(state.policy),
    collectives=total,
    collectives_in_branches=inside,
  )


if __name__ == '__main__':
  main(sys.argv[1])
