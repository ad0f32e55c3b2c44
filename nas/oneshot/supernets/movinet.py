"""One set of weights for all MoViNets of a space: the one-shot network of the search.

Bender et al., TuNAS, CVPR 2020, on the space of MoViNet (supplement A.2). Every convolution
that architectures share has one kernel at full width, of which a network uses the first
channels: the rest is masked and gets no gradient. Each kernel size of a depthwise
convolution has its own weights and norm behind a switch, so that only the sampled one is
computed. Layers that are left out are skipped. Norms use the statistics of the batch and
keep none, because the statistics of other architectures would be wrong.

The layers after a block's first have equal shapes. One `lax.scan` runs them, which keeps
the program small, and each is recomputed in the backward pass, which keeps memory near that
of a single path.

What single layers compute is in `movinet_jax.ops`, shared with the layers of one network.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from movinet_jax import ops
from movinet_jax.models import movinet
from nas.oneshot import masked
from nas.spaces.movinet import Block, MovinetSpace


@dataclasses.dataclass(frozen=True)
class Supernet(masked.MaskedNet):
  """The one-shot network of a space of MoViNets."""

  space: MovinetSpace

  def __post_init__(self):
    if self.space.base.temporal_softmax:
      raise ValueError('a supernet pools over time: temporal_softmax is not searched')

  # Weights.

  def init(self, key):
    """Makes the weights, named as those of movinet.Model are."""
    space, base = self.space, self.space.base
    stem, project = space.stems[-1], space.projects[-1]
    keys = iter(jax.random.split(key, 4 + len(space.blocks)))
    params = {'stem': masked.init_conv(next(keys), (1, 3, 3, 3, stem))}
    before = stem
    for i, block in enumerate(space.blocks):
      first, rest = jax.random.split(next(keys))
      made = {'first': self._init_layer(first, block, before)}
      if block.depth > 1:
        make = functools.partial(self._init_layer, block=block, before=None)
        made['rest'] = jax.vmap(make)(jax.random.split(rest, block.depth - 1))
      params[f'block{i}'] = made
      before = block.widths[-1]
    params['project'] = masked.init_conv(next(keys), (before, project))
    params['hidden'] = {'conv': masked.init_dense(next(keys), project, base.head)}
    params['classifier'] = {
      'kernel': 0.01 * jax.random.normal(next(keys), (base.head, self.num_classes)),
      'bias': jnp.zeros(self.num_classes),
    }
    return params

  def _init_layer(self, key, block: Block, before: int | None):
    """A layer's weights; `before` is the width that comes in, None for the block's own."""
    expand, width = block.expands[-1], block.widths[-1]
    keys = jax.random.split(key, 5)
    params = {
      'expand': masked.init_conv(keys[0], (before or width, expand)),
      'kernels': {
        str(k): self._init_depthwise(jax.random.fold_in(keys[1], k), kernel, expand)
        for k, kernel in enumerate(block.kernels)
      },
      'project': masked.init_conv(keys[2], (expand, width)),
      'rezero': {'scale': jnp.zeros(())},
    }
    if self.space.se:
      params['se'] = self._init_squeeze_excite(keys[3], expand)
    if before is not None:
      params['skip'] = masked.init_conv(keys[4], (before, width))
    return params

  def _init_depthwise(self, key, kernel, expand):
    space, time = jax.random.split(key)
    if self.space.base.conv == '3d':
      return {'depthwise': masked.init_conv(space, (*kernel, 1, expand))}
    params = {'depthwise': masked.init_conv(space, (1, *kernel[1:], 1, expand))}
    if kernel[0] > 1:
      params['temporal'] = masked.init_conv(time, (kernel[0], 1, 1, 1, expand))
    return params

  def _init_squeeze_excite(self, key, expand):
    reduce, back = jax.random.split(key)
    inputs = expand * self.squeezes
    params = {
      'reduce': masked.init_dense(reduce, inputs, self.count_hidden(expand)),
      'expand': masked.init_dense(back, self.count_hidden(expand), expand),
    }
    if self.space.base.positions:
      params['position_scale'] = jnp.zeros(())
    return params

  @property
  def squeezes(self) -> int:
    """How many means a squeeze takes: of the past and the frame, or of one of them."""
    return 2 if self.space.base.se == '2plus3d' else 1

  def count_hidden(self, expand: int) -> int:
    """Channels inside a squeeze-excitation."""
    return movinet.count_hidden(self.space.base.se, expand)

  # Running one network.

  def apply(self, params, x, choices, state=None):
    """Classifies clips with one network.

    Args:
      params: weights.
      x: [B, T, H, W, 3] in [0, 1].
      choices: [D] int32, which network.
      state: what the previous call returned, None at a video's beginning.

    Returns:
      logits [B, N] float32 of everything seen so far, and the state ({} if the space's
      networks are not causal).
    """
    space, before, after = self.space, state or {}, {}
    width = jnp.asarray(space.stems)[choices[space.stem_number]]
    kernel = params['stem']['conv']['kernel'].astype(self.dtype)
    x = ops.spatial_conv(x.astype(self.dtype), kernel, stride=(2, 2))
    x = self._norm(params['stem'], x, width)
    for i, block in enumerate(space.blocks):
      x, width, kept = self._run_block(
        i, block, params[f'block{i}'], x, width, choices, before.get(f'block{i}')
      )
      after |= {f'block{i}': kept} if kept else {}
    project = jnp.asarray(space.projects)[choices[space.project_number]]
    x = self._norm(params['project'], self._multiply(params['project']['conv'], x), project)
    x, after['pool'] = ops.global_mean(x, before.get('pool'), causal=space.base.causal)
    x = ops.get_activation(space.base.head_activation)(self._multiply(params['hidden']['conv'], x))
    logits = self._multiply(params['classifier'], x)[:, 0, 0, 0]
    return logits.astype(jnp.float32), after if space.base.causal else {}

  def _run_block(self, number, block, params, x, width_before, choices, state):
    """A block: (x, its width, {} or {'first', 'rest'} states)."""
    places = [p for p in self.space.places if p.block == number]
    chosen = [self._read(place, choices) for place in places]
    width, state = chosen[0]['width'], state or {}
    layer = functools.partial(self._run_layer, block, block.stride)
    if self.remat:
      layer = jax.checkpoint(layer)
    x, first = layer(params['first'], x, chosen[0], width_before, state.get('first'))
    if len(places) == 1:
      return x, width, {'first': first} if first else {}
    rest = jax.tree.map(lambda *values: jnp.stack(values), *chosen[1:])
    begin = state.get('rest')
    if begin is None:
      begin = self._zero_states(block, x, len(places) - 1)
    x, after = lax.scan(functools.partial(self._run_rest, block), x, (params['rest'], rest, begin))
    return x, width, {'first': first, 'rest': after} if first else {}

  def _run_rest(self, block, x, row):
    params, chosen, state = row
    layer = functools.partial(self._run_layer, block, 1, width_before=None)
    if self.remat:
      layer = jax.checkpoint(layer, prevent_cse=False)

    def run(x, state):
      return layer(params, x, chosen, state=state)

    return lax.cond(chosen['skip'] == 0, run, lambda x, state: (x, state), x, state)

  def _read(self, place, choices) -> dict:
    """What was decided about a layer: channels, the numbers of kernel, se and skip."""
    number = {key: choices[n] for key, n in place.numbers.items()}
    return {
      'width': jnp.asarray(place.choices['width'])[number['width']],
      'expand': jnp.asarray(place.choices['expand'])[number['expand']],
      'kernel': number['kernel'],
      'se': number.get('se', jnp.int32(0)),
      'skip': number.get('skip', jnp.int32(0)),
    }

  def _run_layer(self, block, stride, params, x, chosen, width_before, state):
    after = {}
    y = self._multiply(params['expand']['conv'], x)
    y = self._norm(params['expand'], y, chosen['expand'])
    y, buffer = self._run_depthwise(block, stride, params['kernels'], y, chosen, state)
    if buffer is not None:
      after['buffer'] = buffer
    if self.space.se:
      y, squeezed = self._squeeze_excite(params['se'], y, chosen, state)
      after |= squeezed
    y = self._multiply(params['project']['conv'], y)
    y = self._norm(params['project'], y, chosen['width'], 'identity')
    y = y * params['rezero']['scale'].astype(y.dtype)
    if width_before is not None:
      x = self._skip(params['skip'], x, stride, width_before, chosen['width'])
    return x + y, after

  def _run_depthwise(self, block, stride, params, x, chosen, state):
    """Runs the chosen kernel: (y, the frames that the longest kernel would need)."""
    history = max(kernel[0] for kernel in block.kernels) - 1
    keeps = self.space.base.causal and history > 0
    start = None
    if keeps:
      start = state['buffer'] if state else self._zero_buffer(x, stride, history)

    def branch(k, kernel):
      run = functools.partial(self._convolve, kernel, stride)
      return lambda x, buffer, params: run(params[str(k)], x, buffer, chosen['expand'])

    branches = [branch(k, kernel) for k, kernel in enumerate(block.kernels)]
    if len(branches) == 1:
      return branches[0](x, start, params)
    return lax.switch(chosen['kernel'], branches, x, start, params)

  def _convolve(self, kernel, stride, params, x, buffer, expand):
    """One kernel: in 3D at once, or in space and then in time."""
    strides = (stride, stride)
    if self.space.base.conv == '3d':
      y, buffer = self._depthwise(params['depthwise'], x, buffer, strides)
      return self._norm(params['depthwise'], y, expand), buffer
    y, _ = self._depthwise(params['depthwise'], x, None, strides)
    y = self._norm(params['depthwise'], y, expand)
    if 'temporal' not in params:
      return y, buffer if buffer is None else ops.prepend(buffer, y)[1]
    z, buffer = self._depthwise(params['temporal'], y, buffer, (1, 1))
    return self._norm(params['temporal'], z, expand), buffer

  def _depthwise(self, params, x, buffer, stride):
    kernel = params['conv']['kernel'].astype(self.dtype)
    time, history = 'same', kernel.shape[0] - 1
    if buffer is not None:
      longest = buffer.shape[1]
      full, buffer = ops.prepend(buffer, x)
      x, time = full[:, longest - history :], 'valid'
    y = ops.depthwise_conv3d(x, kernel, stride=stride, time=time, form=self.form)
    return y, buffer

  def _zero_buffer(self, x, stride, history):
    """Frames before the first: of what a temporal kernel reads."""
    b, _, h, w, c = x.shape
    if self.space.base.conv != '3d':
      h, w = -(-h // stride), -(-w // stride)
    return jnp.zeros((b, history, h, w, c), x.dtype)

  def _zero_states(self, block, x, layers):
    """States of the layers after a block's first, stacked; {} if they have none."""
    if not self.space.base.causal:
      return {}
    b, _, h, w, _ = x.shape
    expand, shapes = block.expands[-1], {}
    history = max(kernel[0] for kernel in block.kernels) - 1
    if history:
      shapes['buffer'] = (layers, b, history, h, w, expand), x.dtype
    if self.space.se and self.space.base.se != '2d':
      shapes['total'] = (layers, b, 1, 1, 1, expand), jnp.float32
      shapes['count'] = (layers, b), jnp.int32
    # Made of x: under shard_map they must be marked as differing between devices, as the
    # states are that a layer returns in their place.
    zero = jnp.zeros_like(x[0, 0, 0, 0, 0])
    return {k: jnp.zeros(*shape) + zero.astype(shape[1]) for k, shape in shapes.items()}

  def _squeeze_excite(self, params, x, chosen, state):
    """As layers.SqueezeExcite, for the first channels of x."""
    base, widest = self.space.base, x.shape[-1]
    before = {key: value for key, value in (state or {}).items() if key != 'buffer'}
    squeezed, after = ops.squeeze_means(x, before, kind=base.se, causal=base.causal)
    if 'position_scale' in params:
      first = after['count'] - x.shape[1]
      waves = self._positions(first, x.shape[1], widest, chosen['expand'])
      squeezed += params['position_scale'] * waves
    hidden = jnp.stack([jnp.int32(self.count_hidden(e)) for e in range(0, widest + 1, 8)])
    y = ops.get_activation(base.activation)(self._multiply(params['reduce'], squeezed))
    y = masked.keep_first(y, hidden[chosen['expand'] // 8])
    y = ops.get_activation(base.gate)(self._multiply(params['expand'], y))
    gated = x * y.astype(x.dtype)
    if self.space.se == 'search':
      gated = jnp.where(chosen['se'] == 0, gated, x)
    return gated, after

  def _positions(self, first, frames, widest, expand):
    """Positions in as many channels as the network squeezes, 0 in the others."""
    place = jnp.arange(widest * self.squeezes)
    used = place % widest < expand
    # Where both means lie side by side, the second begins at `expand` in the network.
    place = jnp.where(place < widest, place, place - widest + expand)
    waves = ops.sine_positions(first, frames, expand * self.squeezes, place)
    return jnp.where(used, waves, 0)

  def _skip(self, params, x, stride, before, width):
    """What a block's first layer adds its result to."""
    widest = params['norm']['scale'].shape[0]

    def project(x):
      return self._norm(params, self._multiply(params['conv'], x), width, 'identity')

    if stride > 1:
      return project(ops.average_pool(x, (3, 3), (stride, stride)))
    return lax.cond(before == width, lambda x: masked.widen(x, widest), project, x)

  def _norm(self, params, x, width, activation=None):
    activation = activation or self.space.base.activation
    return masked.norm(params['norm'], x, width, activation)

  # One network alone.

  def extract(self, params, choices):
    """The variables of one network, as movinet.Model has them, cut out of the weights.

    Its batch statistics are those that norms begin with: a supernet has none.
    """
    spec, blocks = self.space.decode(choices), self.space.blocks
    cut = {'stem': masked.cut_conv(params['stem'], None, spec.stem)}
    before, counts = spec.stem, [0] * len(blocks)
    for place in self._list_places(choices):
      i, weights = place.block, _find_layer(params, place)
      width, layer = spec.blocks[i].features, spec.blocks[i].layers[counts[i]]
      kernel = weights['kernels'][str(blocks[i].kernels.index(layer.kernel))]
      name = f'block{i}_layer{counts[i]}'
      cut[name] = self._cut_layer(weights, kernel, layer, before, width)
      counts[i], before = counts[i] + 1, width
    cut['project'] = masked.cut_conv(params['project'], before, spec.project)
    hidden = params['hidden']['conv']
    cut['hidden'] = {'conv': {'kernel': hidden['kernel'][: spec.project], 'bias': hidden['bias']}}
    cut['classifier'] = params['classifier']
    model = movinet.Model(spec, self.num_classes)
    x = jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.float32)
    wanted = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    # A block's first layer has weights for a projection also where the network needs none.
    cut = {k: {n: v for n, v in cut[k].items() if n in w} for k, w in wanted['params'].items()}
    return {'params': cut, 'batch_stats': masked.begin_statistics(wanted['batch_stats'])}

  def _list_places(self, choices):
    """The places where one network has a layer."""
    chosen = np.asarray(choices)
    for place in self.space.places:
      if 'skip' not in place.numbers or not chosen[place.numbers['skip']]:
        yield place

  def _cut_layer(self, params, kernel, layer, before, width):
    expand = layer.expand
    cut = {
      'expand': masked.cut_conv(params['expand'], before, expand),
      'project': masked.cut_conv(params['project'], expand, width),
      'rezero': params['rezero'],
    }
    for name, weights in kernel.items():
      cut[name] = masked.cut_conv(weights, None, expand)
    if layer.se:
      cut['se'] = self._cut_squeeze_excite(params['se'], expand)
    if 'skip' in params:
      cut['skip'] = masked.cut_conv(params['skip'], before, width)
    return cut

  def _cut_squeeze_excite(self, params, expand):
    hidden, kernel = self.count_hidden(expand), params['reduce']['kernel']
    means = jnp.split(kernel, self.squeezes)  # the weights of each mean, at full width
    rows = jnp.concatenate([mean[:expand] for mean in means])
    back = params['expand']
    return {
      **params,
      'reduce': {'kernel': rows[:, :hidden], 'bias': params['reduce']['bias'][:hidden]},
      'expand': {
        'kernel': back['kernel'][:hidden, :expand],
        'bias': back['bias'][:expand],
      },
    }


def _find_layer(params, place):
  """The weights of the layer at a place."""
  block = params[f'block{place.block}']
  if place.layer == 0:
    return block['first']
  return jax.tree.map(lambda w: w[place.layer - 1], block['rest'])
