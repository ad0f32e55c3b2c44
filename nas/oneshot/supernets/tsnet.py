"""One set of weights for all two-stream networks of a space: the supernet of Auto-TSNet.

Gong et al., ICCV 2021, section 4.1: one network is sampled at a time, so the memory is that of
one network. Kernels are shared at full width (`nas.oneshot.masked`). Each depthwise kernel and
each fusion has weights of its own behind a switch, so that only the chosen one is computed. A
network without a dense stream skips it. Blocks after a stage's first have equal shapes: one
`lax.scan` runs them, with what stands between their groups, and each is computed again in the
backward pass.

What single layers compute is in `movinet_jax.ops`, shared with the layers of one network.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from movinet_jax import layers, ops
from movinet_jax.layers import glore
from movinet_jax.models import tsnet
from nas.oneshot import masked
from nas.spaces.tsnet import TsnetSpace

_NAMES = 'sparse', 'dense'


def _kaiming(normal, shape):
  """Normal numbers, with the variance that Kaiming's rule has for what comes out."""
  return math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1])) * normal(shape)


_init_conv = functools.partial(masked.init_conv, init=_kaiming)
_init_dense = functools.partial(masked.init_dense, init=_kaiming)


@dataclasses.dataclass(frozen=True)
class Supernet(masked.MaskedNet):
  """The one-shot network of a space of two-stream networks."""

  space: TsnetSpace

  # Weights.

  def init(self, key):
    """Makes the weights, named as those of tsnet.Model are where it has such."""
    return masked.draw(self._make_weights, key)

  def _make_weights(self, normal):
    """The weights, of normal numbers that `normal` gives for a shape."""
    base = self.space.base
    params = {name: self._make_stream(normal, s) for s, name in enumerate(_NAMES)}
    params['fusions'] = {str(i): self._make_fusion(normal, i) for i in range(self._count)}
    inputs = sum(map(self._find_project, (0, 1)))
    params['hidden'] = {'conv': {'kernel': _kaiming(normal, (inputs, base.hidden))}}
    classifier = 0.01 * normal((base.hidden, self.num_classes))
    params['classifier'] = {'kernel': classifier, 'bias': jnp.zeros(self.num_classes)}
    return params

  def _make_stream(self, normal, stream):
    stem = self.space.base.stems[stream]
    params = {
      'stem_space': {'kernel': _kaiming(normal, (1, 3, 3, 3, stem))},
      'stem': _init_conv(normal, (3, 1, 1, 1, stem)),
    }
    before = stem
    for i, group in enumerate(self.space.groups[stream]):
      made = {'first': self._make_block(normal, group, before)}
      if group.depth > 1:
        rest = [self._make_block(normal, group, None) for _ in range(group.depth - 1)]
        made['rest'] = _stack(rest)
      params[f'group{i}'] = made
      before = group.widths[-1]
      if i in self.space.places:
        params[f'attention{i}'] = self._make_attention(normal, before)
    params['project'] = _init_conv(normal, (before, self._find_project(stream)))
    return params

  def _make_block(self, normal, group, before: int | None):
    """A block's weights; `before` is the width that comes in, None for the group's own."""
    width, inner = group.widths[-1], self._find_inner(group)
    params = {
      'expand': _init_conv(normal, (before or width, inner)),
      'depthwise': self._make_depthwise(normal, inner),
      'project': _init_conv(normal, (inner, width), scale=0.0),
    }
    if before is None or group.position % 2 == 0:
      params['se'] = self._make_squeeze_excite(normal, inner)
    if before is not None:
      params['shortcut'] = _init_conv(normal, (before, width))
    return params

  def _make_depthwise(self, normal, inner):
    """All kernels, their taps one behind the other, and a norm's numbers for each."""
    made = [_kaiming(normal, (*k, 1, inner)).reshape(-1, inner) for k in self._kernels]
    shape = len(made), inner
    norm = {'scale': jnp.ones(shape), 'bias': jnp.zeros(shape)}
    return {'conv': {'kernel': jnp.concatenate(made)}, 'norm': norm}

  def _make_squeeze_excite(self, normal, inner):
    hidden = layers.count_squeezed(inner)
    return {
      'reduce': _init_dense(normal, inner, hidden),
      'expand': _init_dense(normal, hidden, inner),
    }

  def _make_attention(self, normal, width):
    m = self.space.base.attention_width
    return {
      'state': _init_dense(normal, width, 2 * m),
      'nodes': _init_dense(normal, width, m),
      'mix_nodes': _init_dense(normal, m, m),
      'mix_states': {'kernel': _kaiming(normal, (2 * m, 2 * m))},
      'extend': _init_conv(normal, (2 * m, width), scale=0.0),
    }

  def _make_fusion(self, normal, number):
    """The weights of each kind behind a group, and of the products that read what it fuses."""
    return {
      kind: self._make_kind(normal, kind, number) for kind in self.space.fusions if kind != 'none'
    }

  def _make_kind(self, normal, kind, number):
    base, params = self.space.base, {}
    width = self.space.groups[1][number].widths[-1]
    frames = tsnet.count_frames(base, kind)
    if base.join == 'sum':
      return _init_conv(normal, (frames, width, self.space.groups[0][number].widths[-1]))
    fused = tsnet.count_concatenated(base, kind, width)
    if kind == 'conv':
      params = _init_conv(normal, (frames, width, fused))
    for name, outputs in self._list_readers(number):
      params[name] = {'kernel': _kaiming(normal, (fused, outputs))}
    return params

  def _list_readers(self, number) -> list[tuple[str, int]]:
    """The products that read the sparse stream behind a group, and how wide they are."""
    if number + 1 == self._count:
      return [('project', self._find_project(0))]
    group = self.space.groups[0][number + 1]
    return [('expand', self._find_inner(group)), ('shortcut', group.widths[-1])]

  @property
  def _count(self) -> int:
    """Groups of a stream."""
    return len(self.space.groups[0])

  @property
  def _stages(self) -> list[list[int]]:
    """The numbers of the groups of each stage."""
    stages = [group.stage for group in self.space.groups[0]]
    return [[n for n, stage in enumerate(stages) if stage == s] for s in sorted(set(stages))]

  @property
  def _kernels(self) -> tuple[tuple[int, int, int], ...]:
    return tuple((t, k, k) for t in self.space.times for k in self.space.sizes)

  def _find_inner(self, group) -> int:
    return int(self.space.expansions[-1] * group.widths[-1])

  def _find_project(self, stream: int) -> int:
    """Channels before the pool of a stream."""
    return self._find_inner(self.space.groups[stream][-1])

  # Running one network.

  def apply(self, params, x, choices, state=None):
    """Classifies clips with one network.

    Args:
      params: weights.
      x: [B, T, H, W, 3] in [0, 1].
      choices: [D] int32, which network.
      state: None or {}: the networks take whole clips.

    Returns:
      logits [B, N] float32, and {}.
    """
    base = self.space.base
    x = ((x - base.mean) / base.deviation).astype(self.dtype)
    laterals, dense = self._run_dense(params, x, choices)
    sparse = self._run_sparse(params, x[:, :: base.ratio], choices, laterals)
    pooled = jnp.concatenate([sparse, dense], -1)
    hidden = jax.nn.relu(self._multiply(params['hidden']['conv'], pooled))
    logits = self._multiply(params['classifier'], hidden).astype(jnp.float32)
    return logits.mean((1, 2, 3)), {}

  def _run_dense(self, params, x, choices):
    """What each group gives the sparse stream, and means [B, 1, H', W', C]; zeros without one."""

    def run(x):
      y, laterals = self._run_stem(params['dense'], x, 1), []
      for numbers in self._stages:
        y, fused = self._run_stage(params, 1, numbers, y, choices)
        laterals += fused
      return laterals, self._pool(params['dense'], 1, y, choices, None)

    # Made of x: under shard_map they must be marked as differing between devices, as those
    # are that the stream returns.
    zero = jnp.zeros_like(x[0, 0, 0, 0, 0])
    shapes = jax.eval_shape(run, x)

    def skip(x):
      return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype) + zero.astype(s.dtype), shapes)

    return lax.cond(choices[self.space.dense_number] == 1, run, skip, x)

  def _run_sparse(self, params, x, choices, laterals):
    x, laterals = self._run_stem(params['sparse'], x, 0), [None, *laterals]
    for numbers in self._stages:
      x, _ = self._run_stage(params, 0, numbers, x, choices, laterals)
    last = self._read(0, self._count - 1, choices)
    x, lateral = self._join(x, laterals[-1], last['width'])
    return self._pool(params['sparse'], 0, x, choices, lateral)

  def _join(self, x, lateral, width):
    """Adds what is fused to x, or leaves it for the products that read x."""
    if lateral is None or self.space.base.join == 'concat':
      return x, lateral
    return x + masked.keep_first(lateral['sum'], width), None

  def _run_stem(self, params, x, stream):
    kernel = params['stem_space']['kernel'].astype(self.dtype)
    x = ops.spatial_conv(x, kernel, stride=(2, 2), padding='centred')
    x = self._depthwise(params['stem'], x, (1, 1))
    return self._norm(params['stem'], x, self.space.base.stems[stream], 'relu')

  def _run_stage(self, params, stream, numbers, x, choices, laterals=None):
    """Some groups of one stage: (x, what each gives the sparse stream, if this is the dense one).

    Args:
      params: of all.
      numbers: of the groups, the first of which has a stride.
      laterals: what is fused before each group, for the sparse stream.
    """
    mine, first, last = params[_NAMES[stream]], numbers[0], numbers[-1]
    chosen, fused = self._read(stream, first, choices), []
    x, lateral = self._join(x, laterals and laterals[first], chosen['before'])
    run = functools.partial(self._run_block, self.space.groups[stream][first].stride)
    run = jax.checkpoint(run) if self.remat else run
    x = run(mine[f'group{first}']['first'], x, chosen, lateral)
    rows = self._list_rows(stream, numbers)
    if rows:
      given = self._stack_rows(params, stream, rows, choices, laterals)
      starts = [r for r, (_, j) in enumerate(rows) if j == 0]
      body = functools.partial(self._run_row, rows[starts[0]][0] - 1 if starts else None)
      body = jax.checkpoint(body, prevent_cse=False) if self.remat else body
      x, found = lax.scan(body, x, given)
      fused = [jax.tree.map(lambda y, r=r: y[r], found) for r in starts]
    if last in self.space.places:
      attends = choices[self._attention_number(stream, last)] == 1
      attention = mine[f'attention{last}']
      x = self._attend(attention, x, attends, self._read(stream, last, choices)['width'])
    if stream:
      kind, width = self._read_fusion(last, choices)
      fused.append(self._fuse(params['fusions'][str(last)], last, x, kind, width))
    return x, fused

  def _list_rows(self, stream, numbers) -> list[tuple[int, int]]:
    """The blocks of a stage after its first: (group, its number in the group)."""
    groups = self.space.groups[stream]
    return [(n, j) for n in numbers for j in range(groups[n].depth)][1:]

  def _stack_rows(self, params, stream, rows, choices, laterals) -> dict:
    """What each block after a stage's first is given, stacked: weights and choices.

    What only some blocks have, the others have a copy of, which a switch keeps unused.
    """
    mine, groups = params[_NAMES[stream]], self.space.groups[stream]
    numbers = [number for number, _ in rows]
    chosen = {number: self._read(stream, number, choices) for number in set(numbers)}
    begun = sorted({number for number, j in rows if j == 0})
    squeezes = mine[f'group{begun[0] - 1 if begun else numbers[0]}']['first'].get('se')
    given = {
      'block': _concatenate(
        _list_blocks(mine[f'group{n}'], n in begun, squeezes) for n in sorted(set(numbers))
      ),
      'chosen': _stack(
        {
          **chosen[n],
          'squeeze': (groups[n].position + j) % 2 == 0,
          'starts': j == 0,
        }
        for n, j in rows
      ),
    }
    if not begun:
      return given
    picked = np.array([begun.index(n) if n in begun else 0 for n in numbers])
    pick = lambda trees: jax.tree.map(lambda x: x[picked], _stack(trees))  # noqa: E731
    given['shortcut'] = pick(mine[f'group{n}']['first']['shortcut'] for n in begun)
    places = [n for n in begun if n - 1 in self.space.places]
    if places:
      given['attention'] = pick(
        mine[f'attention{n - 1 if n in places else places[0] - 1}'] for n in begun
      )
      given['attends'] = jnp.stack(
        [
          (choices[self._attention_number(stream, n - 1)] == 1) & (j == 0)
          if n in places
          else jnp.bool_(False)
          for n, j in rows
        ]
      )
    if stream:
      given['fusion'] = pick(params['fusions'][str(n - 1)] for n in begun)
      kinds, widths = zip(*(self._read_fusion(n - 1, choices) for n in begun), strict=True)
      starts = np.array([j == 0 for _, j in rows])
      given['kind'] = jnp.where(starts, jnp.stack(kinds)[picked], 0)  # the first is none
      given['dense_width'] = jnp.stack(widths)[picked]
    elif laterals is not None:
      given['lateral'] = pick(laterals[n] for n in begun)
    return given

  def _run_row(self, number, x, row):
    """What stands behind a group, where a block begins the next one, and the block.

    Shapes are those behind the group of this number, as behind all others within the stage.
    """
    chosen, fused, lateral = row['chosen'], {}, None
    if 'attention' in row:
      x = self._attend(row['attention'], x, row['attends'], chosen['before'])
    if 'fusion' in row:
      fused = self._fuse(row['fusion'], number, x, row['kind'], row['dense_width'])
    if 'lateral' in row:
      # Only the first block of a group reads what is fused.
      lateral = jax.tree.map(
        lambda y: jnp.where(chosen['starts'], y, jnp.zeros((), y.dtype)), row['lateral']
      )
      x, lateral = self._join(x, lateral, chosen['before'])
    params = row['block']
    if 'shortcut' in row:
      params = {**params, 'shortcut': row['shortcut']}
      chosen = {**chosen, 'changes': chosen['changes'] & chosen['starts']}
    return self._run_block(1, params, x, chosen, lateral), fused

  def _read(self, stream, number, choices) -> dict:
    """What was decided about a group: channels, and the number of its kernel."""
    group, path = self.space.groups[stream][number], f'groups/{number}'
    time, space, width, expansion = (
      choices[self.space.number(stream, f'{path}/{name}')]
      for name in ('time', 'space', 'features', 'expansion')
    )
    inner = np.int32(np.outer(group.widths, self.space.expansions))
    hidden = np.vectorize(layers.count_squeezed)(inner).astype(np.int32)
    fused = jnp.bool_(False)
    if stream == 0 and number and self.space.base.join == 'concat':
      kind = choices[self.space.fusion_number(number - 1)]
      fused = (kind > 0) & (choices[self.space.dense_number] == 1)
    before = jnp.int32(self.space.base.stems[stream])
    if number:
      widths = jnp.asarray(self.space.groups[stream][number - 1].widths)
      before = widths[choices[self.space.number(stream, f'groups/{number - 1}/features')]]
    width_channels = jnp.asarray(group.widths)[width]
    return {
      'width': width_channels,
      'inner': jnp.asarray(inner)[width, expansion],
      'hidden': jnp.asarray(hidden)[width, expansion],
      'kernel': time * len(self.space.sizes) + space,
      'before': before,
      'changes': fused | (before != width_channels),
    }

  def _run_block(self, stride, params, x, chosen, lateral):
    """X3D's bottleneck; `lateral` is what the fusion before it adds to its products."""
    y = self._multiply(params['expand']['conv'], x)
    y = y if lateral is None else y + lateral['expand']
    y = self._norm(params['expand'], y, chosen['inner'], 'relu')
    y = self._run_kernel(params['depthwise'], y, chosen, (stride, stride))
    y = self._squeeze(params, y, chosen)
    y = self._multiply(params['project']['conv'], ops.get_activation('swish')(y))
    y = self._norm(params['project'], y, chosen['width'])
    if 'shortcut' in params:
      x = self._shorten(params['shortcut'], x, stride, chosen, lateral)
    return jax.nn.relu(x + y)

  def _run_kernel(self, params, x, chosen, stride):
    """The chosen depthwise convolution and its norm."""
    options = ('stride', stride), ('padding', 'centred'), ('form', self.form)
    number, taps = chosen['kernel'], params['conv']['kernel']
    y = masked.choose_depthwise(x, taps, number, self._kernels, options)
    mine = {'norm': jax.tree.map(lambda table: table[number], params['norm'])}
    return self._norm(mine, y, chosen['inner'])

  def _squeeze(self, params, x, chosen):
    if 'se' not in params:
      return x
    if 'squeeze' not in chosen:
      return self._excite(params['se'], x, chosen)
    excite = lambda x: self._excite(params['se'], x, chosen)  # noqa: E731
    return lax.cond(chosen['squeeze'], excite, lambda x: x, x)

  def _excite(self, params, x, chosen):
    squeezed, _ = ops.squeeze_means(x, None, kind='3d', causal=False)
    y = jax.nn.relu(self._multiply(params['reduce'], squeezed))
    y = self._multiply(params['expand'], masked.keep_first(y, chosen['hidden']))
    return x * jax.nn.sigmoid(y).astype(x.dtype)

  def _shorten(self, params, x, stride, chosen, lateral):
    """The shortcut of a group's first block: a projection where width or size changes."""
    width = params['norm']['scale'].shape[0]

    def project(x):
      y = self._multiply(params['conv'], ops.skip_pixels(x, stride))
      y = y if lateral is None else y + lateral['shortcut']
      return self._norm(params, y, chosen['width'])

    if stride > 1:
      return project(x)
    return lax.cond(chosen['changes'], project, lambda x: masked.widen(x, width), x)

  def _read_fusion(self, number, choices):
    """The kind of a fusion, and the width of the dense group that it is behind."""
    return choices[self.space.fusion_number(number)], self._read(1, number, choices)['width']

  def _attention_number(self, stream, number) -> int:
    """The number of the decision about attention behind a group."""
    return self.space.number(stream, f'attention/{self.space.places.index(number)}')

  def _fuse(self, params, number, x, kind, width):
    """What one fusion adds to the products that read the sparse stream behind a group.

    A product with concatenated channels is the sum of the products with each part.
    """
    branches = [functools.partial(self._run_fusion, name, number) for name in self.space.fusions]
    if len(branches) == 1:
      return branches[0](x, params, width)
    return lax.switch(kind, branches, x, params, width)

  def _run_fusion(self, kind, number, x, params, width):
    shapes = self._find_lateral_shapes(number, x)
    if kind == 'none':
      zero = jnp.zeros_like(x[0, 0, 0, 0, 0])
      return {name: jnp.zeros(shape, x.dtype) + zero for name, shape in shapes.items()}
    base, params, fused = self.space.base, params[kind], self._gather(kind, x)
    if 'conv' in params:
      kernel = params['conv']['kernel']
      fused = self._multiply({'kernel': kernel.reshape(-1, kernel.shape[-1])}, fused)
    if base.join == 'sum':
      return {'sum': self._norm(params, fused, fused.shape[-1])}
    if kind == 'conv':
      fused = self._norm(params, fused, tsnet.count_concatenated(base, kind, width), 'relu')
    return {name: self._read_fused(params[name], name, number, fused) for name in shapes}

  def _gather(self, kind, x):
    """The dense frames that a fusion sees for each sparse one, as channels, frame by frame."""
    base, count = self.space.base, -(-x.shape[1] // self.space.base.ratio)
    seen, x = tsnet.count_frames(base, kind), tsnet.pad_frames(x, base, kind)
    return tsnet.pick_regular(x, seen, ratio=base.ratio, count=count)

  def _read_fused(self, params, name, number, fused):
    if name == 'shortcut':
      stride = self.space.groups[0][number + 1].stride
      fused = ops.skip_pixels(fused, stride)
    return self._multiply(params, fused)

  def _find_lateral_shapes(self, number, x) -> dict[str, tuple[int, ...]]:
    b, t, h, w, _ = x.shape
    frames = -(-t // self.space.base.ratio)
    if self.space.base.join == 'sum':
      return {'sum': (b, frames, h, w, self.space.groups[0][number].widths[-1])}
    shapes = {}
    for name, outputs in self._list_readers(number):
      stride = self.space.groups[0][number + 1].stride if name == 'shortcut' else 1
      shapes[name] = (b, frames, -(-h // stride), -(-w // stride), outputs)
    return shapes

  def _attend(self, params, x, attends, width):
    """Runs attention where it is chosen."""
    run = jax.checkpoint(functools.partial(self._reason, width=width))
    return lax.cond(attends, run, lambda params, x: x, params, x)

  def _reason(self, params, x, *, width):
    """As layers.GlobalReasoning, for the first channels of x."""
    shares = self._multiply(params['nodes'], x)
    nodes, _ = ops.gather_nodes(self._multiply(params['state'], x), shares, None, causal=False)
    nodes = nodes + self._multiply(params['mix_nodes'], nodes)
    nodes = jax.nn.relu(jnp.swapaxes(nodes, -1, -2))
    y = ops.scatter_nodes(self._multiply(params['mix_states'], nodes), shares)
    y = self._multiply(params['extend']['conv'], y)
    return x + masked.norm(params['extend']['norm'], y, width, 'identity', glore.EPSILON)

  def _pool(self, params, stream, x, choices, lateral):
    """Means of a stream over its frames and windows of places, [B, 1, H', W', C]."""
    inner = self._read(stream, self._count - 1, choices)['inner']
    y = self._multiply(params['project']['conv'], x)
    y = y if lateral is None else y + lateral['project']
    y = self._norm(params['project'], y, inner, 'relu')
    places = self.space.base.places
    return ops.sliding_mean(y, (y.shape[1], places, places)).astype(self.dtype)

  def _depthwise(self, params, x, stride):
    kernel = params['conv']['kernel'].astype(self.dtype)
    return ops.depthwise_conv3d(x, kernel, stride=stride, padding='centred', form=self.form)

  def _norm(self, params, x, width, activation='identity'):
    return masked.norm(params['norm'], x, width, activation, layers.PYTORCH_NORM['epsilon'])

  # One network alone.

  def extract(self, params, choices):
    """The variables of one network, as tsnet.Model has them, cut out of the weights.

    Its batch statistics are those that norms begin with: a supernet has none.
    """
    spec, streams = self.space.decode(choices), {}
    for stream, (name, groups) in enumerate(spec.streams.items()):
      streams |= {
        f'{name}_{part}': weights
        for part, weights in self._cut_stream(params, stream, groups, spec).items()
      }
    for i, kind in enumerate(spec.fusions):
      cut = self._cut_fusion(params['fusions'][str(i)].get(kind, {}), spec, i)
      streams |= {f'fusion{i}': cut} if cut else {}
    kernel, inputs = params['hidden']['conv']['kernel'], self._find_project(0)
    rows = [kernel[: spec.sparse[-1].inner]]
    rows += [kernel[inputs : inputs + group.inner] for group in spec.dense[-1:]]
    variables = {
      'streams': streams,
      'hidden': {'conv': {'kernel': jnp.concatenate(rows)}},
      'classifier': params['classifier'],
    }
    model = tsnet.Model(spec, self.num_classes)
    x = jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.float32)
    wanted = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    return {'params': variables, 'batch_stats': masked.begin_statistics(wanted['batch_stats'])}

  def _cut_stream(self, params, stream, groups, spec) -> dict:
    mine, before, cut = params[_NAMES[stream]], spec.stems[stream], {}
    cut |= {name: mine[name] for name in ('stem_space', 'stem')}
    for i, group in enumerate(groups):
      fused = self._find_rows(params, spec, i) if stream == 0 else {}
      for j in range(group.depth):
        weights = mine[f'group{i}']['first']
        if j:
          weights = jax.tree.map(lambda w, j=j: w[j - 1], mine[f'group{i}']['rest'])
        rows = fused if j == 0 else {}
        squeeze = (self.space.groups[stream][i].position + j) % 2 == 0
        cut[f'group{i}_block{j}'] = self._cut_block(weights, group, before, rows, j, squeeze)
        before = group.features
      if group.attention:
        cut[f'attention{i}'] = _cut_attention(mine[f'attention{i}'], group.features)
    fused = self._find_rows(params, spec, self._count) if stream == 0 else {}
    cut['project'] = _cut_fused(mine['project'], before, groups[-1].inner, fused.get('project'))
    return cut

  def _find_rows(self, params, spec, number) -> dict:
    """The rows of the products before a group that read what is fused there, by product."""
    if not number or not spec.dense or spec.join == 'sum' or spec.fusions[number - 1] == 'none':
      return {}
    kind, width = spec.fusions[number - 1], spec.dense[number - 1].features
    weights = params['fusions'][str(number - 1)][kind]
    widest = self.space.groups[1][number - 1].widths[-1]
    rows = {}
    for name, _ in self._list_readers(number - 1):
      kernel = weights[name]['kernel']
      if kind == 'stack':
        kernel = kernel.reshape(spec.ratio, widest, -1)[:, :width].reshape(-1, kernel.shape[-1])
      rows[name] = kernel[: tsnet.count_concatenated(spec, kind, width)]
    return rows

  def _cut_block(self, params, group, before, fused, number, squeeze) -> dict:
    """The weights of a group's block of this number."""
    inner, kernel = group.inner, self._kernels.index(group.kernel)
    cut = {
      'expand': _cut_fused(params['expand'], before, inner, fused.get('expand')),
      'depthwise': self._cut_depthwise(params['depthwise'], kernel, inner),
      'project': masked.cut_conv(params['project'], inner, group.features),
    }
    if squeeze:
      hidden, se = layers.count_squeezed(inner), params['se']
      cut['se'] = {
        'reduce': _cut_dense(se['reduce'], inner, hidden),
        'expand': _cut_dense(se['expand'], hidden, inner),
      }
    if number == 0 and (group.stride > 1 or before != group.features or fused):
      rows = fused.get('shortcut')
      cut['shortcut'] = _cut_fused(params['shortcut'], before, group.features, rows)
    return cut

  def _cut_depthwise(self, params, number, inner) -> dict:
    taps = params['conv']['kernel'][masked.find_taps(self._kernels, number), :inner]
    return {
      'conv': {'kernel': taps.reshape(*self._kernels[number], 1, inner)},
      'norm': {key: table[number, :inner] for key, table in params['norm'].items()},
    }

  def _cut_fusion(self, params, spec, number) -> dict:
    """A fusion's own weights; {} where it has none."""
    if 'conv' not in params:
      return {}
    width = spec.dense[number].features
    cut = masked.cut_conv(params, width, tsnet.count_fused(spec, number))
    if spec.fusions[number] != 'conv':
      kernel = cut['conv']['kernel']
      cut['conv'] = {'kernel': kernel.reshape(-1, kernel.shape[-1])}
    return cut


def _list_blocks(group, begins: bool, squeezes) -> list:
  """The weights of a group's blocks, stacked; that of its first block only where it `begins`."""
  parts = [group['rest']] if 'rest' in group else []
  if begins:
    first = {'se': squeezes, **group['first']}
    first = {name: first[name] for name in first if name != 'shortcut'}
    parts = [jax.tree.map(lambda x: x[None], first), *parts]
  return parts


def _concatenate(parts):
  """Joins lists of stacked trees."""
  return jax.tree.map(lambda *x: jnp.concatenate(x), *(tree for part in parts for tree in part))


def _stack(trees):
  return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(one) for one in x]), *trees)


def _cut_fused(params, inputs: int, outputs: int, fused) -> dict:
  """A convolution whose inputs are the first channels, and what is fused behind them."""
  cut = masked.cut_conv(params, inputs, outputs)
  if fused is not None:
    kernel = jnp.concatenate([cut['conv']['kernel'], fused[:, :outputs]])
    cut['conv'] = {'kernel': kernel}
  return cut


def _cut_dense(params, inputs: int, outputs: int) -> dict:
  cut = {'kernel': params['kernel'][:inputs, :outputs]}
  return {**cut, 'bias': params['bias'][:outputs]} if 'bias' in params else cut


def _cut_attention(params, width: int) -> dict:
  return {
    **params,
    'state': {**params['state'], 'kernel': params['state']['kernel'][:width]},
    'nodes': {**params['nodes'], 'kernel': params['nodes']['kernel'][:width]},
    'extend': masked.cut_conv(params['extend'], None, width),
  }
