"""What benchmarks/performance.py measures: training steps, streams, a search step; PyTorch's too.

Each is a dataclass with `prepare(clips) -> Prepared`, which traces and compiles and puts next to
nothing on the device, and whose `measure` then runs alone. Nothing here needs videos, configs
or an optional package. Weights, clips and labels are random: on zeros some hardware is faster.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import depthwise
import jax
import jax.numpy as jnp
import numpy as np
from tables import format_number
from timing import count_kernels, describe_machine

from movinet_jax import cost, models
from movinet_jax.models import movinet, x3d
from movinet_jax.serve.live import Live
from movinet_jax.timing import draw_like, draw_weights, measure_call, queue_in_turns
from movinet_jax.train import losses, mesh, optimizers, steps
from movinet_jax.train.state import make_state
from nas import oneshot, spaces
from nas.objective import Objective

CLASSES = 600
# As in configs/: what a step computes. Rates are of no account here.
RECIPES = {
  'movinet': {'name': 'rmsprop', 'decay': 0.9, 'momentum': 0.9, 'epsilon': 1.0},
  'x3d': {'name': 'sgd', 'momentum': 0.9, 'clip_norm': None, 'weight_decay': 5e-5},
}
SMOOTHING = {'movinet': 0.1, 'x3d': 0.0}
DROPS = {'movinet': {'dropout': 0.5, 'stochastic_depth': 0.2}, 'x3d': {'dropout': 0.5}}
_CUSTOM_CALL = re.compile(r'custom_call_target="([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Prepared:
  """Something that is compiled.

  Attributes:
    measure: runs it and gives its rows.
    about: what every row says.
    spans: by name, when it was traced and compiled (start, end), by time.perf_counter.
  """

  measure: Callable[[], Iterator[dict]]
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  spans: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


class Program:
  """What is measured on a device of JAX.

  Each has `clips` of a step, None where there is no batch that could be smaller.
  """

  def is_on_cpu(self) -> bool:
    return jax.default_backend() == 'cpu'

  def describe_device(self) -> dict:
    return describe_machine()


def choose_dtype(dtype: str) -> str:
  """The type asked for; by default bfloat16, and float32 on a CPU, which is slow in others."""
  return dtype or ('float32' if jax.default_backend() == 'cpu' else 'bfloat16')


@dataclasses.dataclass(frozen=True)
class Ops(Program):
  """The depthwise convolution, forward and with both gradients; see depthwise.py."""

  dtype: str = ''
  quick: bool = False

  clips = None

  def prepare(self, clips) -> Prepared:
    chosen = depthwise.find_defaults(self.quick) | {'kinds': ('forward', 'all')}
    chosen['dtype'] = self.dtype or chosen['dtype']
    programs, began = depthwise.Programs(**chosen, quick=self.quick), time.perf_counter()
    programs.compile()
    return Prepared(programs.measure, spans={'compile_secs': (began, time.perf_counter())})


@dataclasses.dataclass(frozen=True)
class Training(Program):
  """A training step: loss, gradients, optimizer and averages, as `movinet train` has it.

  Attributes:
    network: such as 'movinet/a2'.
    clips: a step of an accelerator; a CPU gets one.
    subclips: see train/steps.py; truncated where there are several.
  """

  network: str
  clips: int
  frames: int
  size: int
  form: str = 'auto'
  dtype: str = ''
  subclips: int = 1
  quick: bool = False

  @property
  def family(self) -> str:
    return self.network.partition('/')[0]

  def make_model(self):
    options = {'form': self.form, 'dtype': choose_dtype(self.dtype), **DROPS[self.family]}
    return make_network(self.network, self.quick, **options)

  def prepare(self, clips: int) -> Prepared:
    model = self.make_model()
    tx = optimizers.make_optimizer(
      batch_size=clips, total_steps=10_000, warmup_steps=100, **RECIPES[self.family]
    )
    loss = losses.make_loss('softmax', label_smoothing=SMOOTHING[self.family])
    step = steps.make_train_step(
      model, tx, loss, seed=0, subclips=self.subclips,
      boundary='truncated' if self.subclips > 1 else 'exact',
    )  # fmt: skip
    shape = clips, self.frames, self.size, self.size, 3
    batch = draw_batch(shape)
    variables = draw_weights(model)
    state = fill_state(jax.eval_shape(lambda: make_state(variables, tx)), variables)
    lowered, traced = trace(step, state, batch)
    program, compiled = compile_lowered(lowered)
    parts = f', {self.subclips} sub-clips' if self.subclips > 1 else ''
    about = {'step': self.network + parts, 'clip': f'{self.frames}x{self.size}²', 'clips': clips}
    about |= {'dtype': choose_dtype(self.dtype), 'form': self.form, **describe_program(program)}

    def measure():
      found = run_steps({'step': (program, state, batch)}, self.quick)['step']
      ms, last = found
      yield {
        'step_ms': format_number(ms),
        'clips_a_sec': format_number(1e3 * clips / ms),
        'loss': format_number(float(last['loss'])),
        'finite': bool(last['finite']),
      }

    return Prepared(measure, about, {'trace_secs': traced, 'compile_secs': compiled})


@dataclasses.dataclass(frozen=True)
class Stream(Program):
  """A live stream, one frame a call: what `movinet stream` runs.

  `queued_ms` is a frame's share of many calls before each synchronisation, `one_ms` of a call
  that is waited for, with its frame on the device; `whole_ms` is from a frame in the host's
  memory to probabilities there.
  """

  network: str
  dtype: str
  form: str = 'auto'
  quick: bool = False

  clips = None

  def prepare(self, clips) -> Prepared:
    model = make_network(self.network, self.quick, form=self.form, dtype=self.dtype)
    size = 16 if self.quick else model.spec.resolution
    live = Live(model, draw_weights(model), (size, size))
    done = time.perf_counter()
    spans = {'compile_secs': (done - live.step.compile_secs, done)}
    dtype = 'float32' if jax.default_backend() == 'cpu' else self.dtype  # whatever is asked for
    about = {'stream': self.network, 'dtype': dtype, 'form': self.form, 'size': size}
    about |= {'step': type(live.step).__name__, **describe_program(live.step.program)}
    about |= {f'tried_{name}_ms': format_number(ms) for name, ms in live.tried.items()}
    return Prepared(lambda: self._measure(live, size), about, spans)

  def _measure(self, live: Live, size: int) -> Iterator[dict]:
    rng, secs = np.random.default_rng(0), 0.05 if self.quick else 1.0
    frames = rng.integers(0, 256, (8, 1, size, size, 3), np.uint8)
    turn = itertools.cycle(frames)
    whole = measure_call(lambda: live(next(turn)), secs)
    placed = [jax.device_put(frame[None]) for frame in frames]
    carried = [live.step.begin()]

    def call(n: int):
      probabilities, carried[0] = live.step(placed[n % len(placed)], carried[0])
      return probabilities

    number = itertools.count()
    one = measure_call(lambda: call(next(number)), secs)
    queued = queue_in_turns({'call': call}, queue_secs=secs / 5)['call']
    yield {
      'queued_ms': format_number(queued),
      'one_ms': format_number(one.median_ms),
      'one_p10_ms': format_number(one.p10_ms),
      'whole_ms': format_number(whole.median_ms),
      'finite': bool(np.isfinite(call(0)).all()),
    }


@dataclasses.dataclass(frozen=True)
class Search(Program):
  """A search step with one candidate, in turns with a training step of the largest network.

  Both learn from a batch and give answers for another as large: the search for its policy,
  training for nothing. The search is timed on the largest network, to which it is held, and on
  those that its policy draws. Both compute each layer again in the backward pass.
  """

  clips: int = 8
  frames: int = 16
  size: int = 224
  dtype: str = ''
  quick: bool = False

  def make_supernet(self):
    dtype = choose_dtype(self.dtype)
    given = {'phi': 0.0, 'clip': (50, 224, 5), 'se': True}  # as configs/search/movinet.py:a2
    if self.quick:
      given |= {'depth': 1, 'widths': (8,), 'strides': (2,), 'clip': (4, 16, 5)}
      given |= {'kernels': ((1, 3, 3), (3, 3, 3)), 'stem': 8, 'project': 16, 'merge_equal': True}
    space = spaces.create('movinet', **given)
    return oneshot.find_supernet(space)(space, CLASSES, dtype=jnp.dtype(dtype), remat=True)

  def prepare(self, clips: int) -> Prepared:
    net, loss = self.make_supernet(), losses.make_loss('softmax', label_smoothing=0.1)
    batch = draw_batch((clips, self.frames, self.size, self.size, 3))
    both = {**batch, 'valid': draw_batch(batch['video'].shape, seed=1)}
    search, trained = _make_search(net, loss), _make_training(net, loss, clips)
    lowered, spans = {}, {}
    for name, (step, state) in {'search': search, 'largest': trained}.items():
      lowered[name], spans[f'{name}_trace_secs'] = trace(step, state, both)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      found = dict(zip(lowered, pool.map(compile_lowered, lowered.values()), strict=True))
    spans |= {f'{name}_compile_secs': span for name, (_, span) in found.items()}
    about = {'search': "in A2's space" if not self.quick else 'in a tiny space'}
    about |= {'clip': f'{self.frames}x{self.size}²', 'clips': clips}
    about['dtype'] = choose_dtype(self.dtype)
    for name, (program, _) in found.items():
      about |= {f'{name}_{key}': value for key, value in describe_program(program).items()}
    held = search[1].replace(held=np.asarray(net.space.largest(), np.int32))
    runs = {
      'largest': (found['largest'][0], trained[1], both),
      'search_of_largest': (found['search'][0], held, both),
      'search': (found['search'][0], search[1], both),
    }
    return Prepared(lambda: self._measure(runs, clips), about, spans)

  def _measure(self, runs, clips: int) -> Iterator[dict]:
    times = {name: ms for name, (ms, _) in run_steps(runs, self.quick).items()}
    yield {
      'largest_step_ms': format_number(times['largest']),
      'search_of_largest_step_ms': format_number(times['search_of_largest']),
      'search_step_ms': format_number(times['search']),
      'ratio': format_number(times['search_of_largest'] / times['largest']),
      'clips_a_sec': format_number(1e3 * clips / times['search']),
    }


def _make_search(net, loss):
  """(step, state) of a search that draws its networks."""
  table, optimizer = net.make_cost_table(), {**RECIPES['movinet'], 'clip_norm': None}
  step = oneshot.make_search_step(
    net, Objective(table), loss, mesh.make_mesh(jax.devices()[:1]), candidates=1,
    optimizer=optimizer,
  )  # fmt: skip
  space = net.space.space
  settings = oneshot.make_settings(space, target=table.bounds[1] / 2)
  free = np.full(len(space), -1, np.int32)
  shapes = jax.eval_shape(lambda: oneshot.make_state(net, settings, optimizer, held=free))
  # Not the state's own maker: it would compile the initialisation of every shape.
  policy = oneshot.make_algorithm(space, settings, held=free).init(jax.random.key(0))
  state = _fill(shapes).replace(settings=settings, policy=policy, held=free)
  return step, state.replace(params=draw_like(shapes.params))


def _make_training(net, loss, clips: int):
  """(step, state) of the largest network of a supernet's space."""
  spec = net.space.decode(net.space.largest())
  options = {'spec': spec, 'dtype': net.dtype, 'remat': True}
  model = models.create(net.space.family, CLASSES, **options)
  recipe = {**RECIPES['movinet'], 'clip_norm': None}
  tx = optimizers.make_optimizer(batch_size=clips, total_steps=10_000, warmup_steps=100, **recipe)
  learn = steps.make_train_step(model, tx, loss, seed=0)
  answer = steps.make_eval_step(model)

  def train(state, batch):
    state, metrics = learn(state, batch)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    return state, {**metrics, 'answer': answer(variables, batch['valid']['video'])}

  variables = draw_weights(model)
  return train, fill_state(jax.eval_shape(lambda: make_state(variables, tx)), variables)


def make_network(name: str, quick: bool = False, **options):
  """A network by its name; with `quick`, one of its family with a few channels."""
  if not quick:
    return models.create(name, CLASSES, **options)
  family, kind = name.partition('/')[0], 'stream' if 'stream' in name else 'base'
  small = {'movinet': movinet, 'x3d': x3d}[family].SMALL
  spec = next(spec for key, spec in small.items() if key.startswith(kind))
  return models.create(family, 5, spec=spec, **options)


def draw_batch(shape: Sequence[int], seed: int = 0) -> dict:
  """A batch of clips uint8 [B, T, H, W, 3], as the input pipeline makes it."""
  rng = np.random.default_rng(seed)
  return {
    'video': rng.integers(0, 256, shape, np.uint8),
    'label': rng.integers(0, 5, shape[0], np.int32),
    'mask': np.ones(shape[0], np.float32),
  }


def _fill(shapes):
  """A state of zeros, which is how counters and optimizers begin."""
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def fill_state(shapes, variables):
  """A training state with these weights on the host; nothing is compiled for it."""
  stats = variables.get('batch_stats', {})
  given = {'params': variables['params'], 'batch_stats': stats}
  return _fill(shapes).replace(**given, ema=given)


def trace(step: Callable, state, batch) -> tuple[Any, tuple[float, float]]:
  """Traces and lowers a step whose state is donated: (lowered, span of time)."""
  began = time.perf_counter()
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, batch))
  lowered = jax.jit(step, donate_argnums=0).lower(*shapes)
  return lowered, (began, time.perf_counter())


def compile_lowered(lowered) -> tuple[Any, tuple[float, float]]:
  """(program, span of time)."""
  began = time.perf_counter()
  return lowered.compile(), (began, time.perf_counter())


def describe_program(program) -> dict:
  """Memory of a program, its kernels, and what it calls beyond XLA's own code, by name."""
  text = program.as_text()
  return {
    'device_mb': round(cost.count_memory(program).total / 1e6),
    'kernels': count_kernels(program),
    'custom_calls': dict(collections.Counter(_CUSTOM_CALL.findall(text))),
  }


def run_steps(runs: Mapping[str, tuple], quick: bool) -> dict[str, tuple[float, Any]]:
  """Milliseconds and the last metrics of steps (program, state, batch), in turns."""
  carried, last, calls = {}, {}, {}
  for name, (program, state, batch) in runs.items():
    # Copies: what is donated must be nobody else's.
    carried[name], batch = jax.tree.map(jnp.array, state), jax.device_put(batch)

    def call(n: int, name=name, program=program, batch=batch):
      carried[name], last[name] = program(carried[name], batch)
      return last[name]

    calls[name] = call
  pace = {'rounds': 3, 'queue_secs': 0.01 if quick else 1.0}
  times = queue_in_turns(calls, **pace)
  return {name: (ms, last[name]) for name, ms in times.items()}


@dataclasses.dataclass(frozen=True)
class TorchTraining(Program):
  """The training step of X3D (x3d_torch.py) or of the public port of MoViNet in PyTorch.

  Autocast to bfloat16 on a GPU, cudnn.benchmark, the same optimizer; no averages of weights.
  """

  network: str
  clips: int
  frames: int
  size: int
  layout: str = 'channels_last_3d'
  quick: bool = False

  def is_on_cpu(self) -> bool:
    import torch  # late, as everywhere here: an optional part

    return not torch.cuda.is_available()

  def describe_device(self) -> dict:
    import torch

    device = 'cpu' if self.is_on_cpu() else torch.cuda.get_device_name()
    return {'date': time.strftime('%Y-%m-%d'), 'device': device, 'torch': torch.__version__}

  def prepare(self, clips: int) -> Prepared:
    network = self._make_network()
    about = {'step': self.network, 'clip': f'{self.frames}x{self.size}²', 'clips': clips}
    about['form'] = f'PyTorch, {self.layout}'
    return Prepared(lambda: self._measure(network, clips), about)

  def _make_network(self):
    family, variant = self.network.split('/')
    if family == 'x3d':
      import x3d_torch

      spec = x3d.SMALL['base'] if self.quick else x3d.VARIANTS[variant]
      return x3d_torch.Network(spec, CLASSES, dropout=0.5)
    from movinets import MoViNet  # pip install git+https://github.com/Atze00/MoViNet-pytorch
    from movinets.config import _C

    cfg = getattr(_C.MODEL, f'MoViNet{variant.upper()}')
    return MoViNet(cfg, causal=False, pretrained=False, num_classes=CLASSES)

  def _measure(self, network, clips: int) -> Iterator[dict]:
    import torch

    torch.backends.cudnn.benchmark = True
    cuda = not self.is_on_cpu()
    device = torch.device('cuda' if cuda else 'cpu')
    plain = torch.contiguous_format
    memory = torch.channels_last_3d if self.layout == 'channels_last_3d' else plain
    network = network.to(device, memory_format=memory).train()
    batch = draw_batch((clips, self.frames, self.size, self.size, 3))
    video = torch.from_numpy(batch['video']).to(device).permute(0, 4, 1, 2, 3)
    video = video.contiguous(memory_format=memory)
    label = torch.from_numpy(batch['label']).long().to(device)
    optimizer = self._make_optimizer(torch, network)

    def call(n: int):
      optimizer.zero_grad(set_to_none=True)
      with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
        logits = network(video.float() / 255)
        loss = torch.nn.functional.cross_entropy(logits.float(), label)
      loss.backward()
      optimizer.step()
      return loss

    def wait(_):
      if cuda:
        torch.cuda.synchronize()

    pace = {'rounds': 3, 'queue_secs': 0.01 if self.quick else 1.0}
    ms = queue_in_turns({'step': call}, wait=wait, **pace)['step']
    mb = torch.cuda.max_memory_allocated() / 1e6 if cuda else None
    yield {
      **{'dtype': 'bfloat16' if cuda else 'float32', 'step_ms': format_number(ms)},
      **{'clips_a_sec': format_number(1e3 * clips / ms), 'device_mb': mb and round(mb)},
    }

  def _make_optimizer(self, torch, network):
    if self.network.startswith('x3d'):
      return torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, weight_decay=5e-5)
    given = {'alpha': 0.9, 'momentum': 0.9, 'eps': 1.0, 'weight_decay': 3e-5}
    return torch.optim.RMSprop(network.parameters(), 1e-3, **given)
