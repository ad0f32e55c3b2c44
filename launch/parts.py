"""Where the parts meet: a config's sections become networks, data and steps."""

import dataclasses
import inspect
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import tqdm
from jax.experimental import multihost_utils

from movinet_jax import convert, data, models
from movinet_jax.names import check_name, suggest
from movinet_jax.spec import to_json
from movinet_jax.train import checkpoint, evaluation, mesh, steps, workdir

CHECKPOINTS = 'checkpoints'  # folder of a workdir


def call(function: Callable, section: Mapping, **more):
  """Calls a function with a config section as its keyword arguments.

  Raises:
    ValueError: a key is none of its arguments, or one of those that the program gives
      (`more`); the message names the nearest.
  """
  parameters = inspect.signature(function).parameters
  known = [name for name in parameters if name not in more]
  takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  for key in section:
    if key in more or (key not in known and not takes_any):
      raise ValueError(f'{function.__name__} takes no {key!r} of a config{suggest(key, known)}')
  return function(**section, **more)


def check_config(
  config: Mapping,
  needed: Sequence[str],
  late: Mapping[str, Sequence[str]],
  sizes: Sequence[str],
):
  """Finds what only a later call would, after minutes of reading or compiling.

  Args:
    needed: keys that there must be, such as 'loop.total_steps'.
    late: what the sections may say whose functions are called late.
    sizes: keys that are counts.

  Raises:
    ValueError: for the first thing that is wrong.
  """
  for key in needed:
    here = config
    for name in key.split('.'):
      if not isinstance(here, Mapping) or name not in here:
        raise ValueError(f'the config has no {key!r}; it needs: {", ".join(needed)}')
      here = here[name]
  for key in sizes:
    if type(config[key]) is not int or config[key] < 1:
      raise ValueError(f'{key} is {config[key]!r}; wanted a whole number, 1 or more')
  for section, known in late.items():
    for key in config[section]:
      check_name(key, known, f'key of {section}')


def check_loss(name: str, source: data.Source):
  """Raises a ValueError for a loss of videos with another number of labels."""
  wanted = 'sigmoid' if source.multi_label else 'softmax'
  if name != wanted:
    several = 'several labels' if source.multi_label else 'one label'
    raise ValueError(
      f'videos of this data have {several}, for which loss.name is {wanted!r}; got {name!r}'
    )


def claim(cfg: Mapping, folder: Path, free: Collection[str]) -> bool:
  """Claims a workdir: for good once it holds a checkpoint or a number of the run.

  Of several processes the first claims it and the others look at what it left, so that
  all fail where one does.

  Returns whether a run goes on; see workdir.claim_workdir for `free` and the errors.

  Raises:
    ValueError: also if a process does not see what the first one wrote.
  """
  resumes = None
  if jax.process_index() == 0:
    try:
      resumes = _claim(cfg, folder, free)
    finally:
      _tell(resumes)
    return resumes
  resumes = _tell(resumes)
  if not (folder / 'config.json').exists():
    raise ValueError(
      f'{folder} on {socket.gethostname()} is not the folder that the first process of '
      'this run has claimed: the workdir must be on a file system that all hosts share'
    )
  # Where the first has failed, this says the same.
  return _claim(cfg, folder, free) if resumes is None else resumes


def _tell(resumes: bool | None) -> bool | None:
  """The answer of the first process, to all; None for an error."""
  told = np.int32(-1 if resumes is None else resumes)
  told = int(multihost_utils.broadcast_one_to_all(told))
  return None if told < 0 else bool(told)


def _claim(cfg, folder, free):
  logged = folder / 'metrics.jsonl'
  begun = bool(checkpoint.count_steps(folder / CHECKPOINTS))
  begun = begun or (logged.exists() and logged.stat().st_size > 0)
  return workdir.claim_workdir(folder, cfg, begun=begun, free=free)


def check_same_data(saved: Mapping, batches):
  """Raises a ValueError if batches are not those that a checkpoint says came before."""
  differences = workdir.find_differences(
    {key: value for key, value in saved.items() if key != 'batches'},
    batches.identity(),
  )
  if differences:
    batches.close()
    raise ValueError(
      'the training data is not what this run was trained on so far:\n  '
      + '\n  '.join(differences)
      + '\nRestore the data, or begin another workdir.'
    )


def replace_network(section: Mapping, path: str) -> dict:
  """A config's `model` section with the network of an architecture file instead."""
  family, spec = models.read_spec(path)
  kept = {key: value for key, value in section.items() if key not in ('name', 'spec')}
  return {**kept, 'name': family, 'spec': to_json(spec)}


def make_model(section: Mapping, num_classes: int):
  """The network of a config's `model` section, for this many classes."""
  section = dict(section)
  wanted = section.pop('num_classes', num_classes)
  if wanted != num_classes:
    raise ValueError(
      f'the config says {wanted} classes, the data has {num_classes}: is it the '
      'dataset that this config is for?'
    )
  return models.create(**section, num_classes=num_classes)


def open_sources(section: Mapping, labels=None) -> dict[str, data.Source]:
  """The data sources of a config by split; evaluation uses the training label map."""
  sources = {}
  if 'train' in section:
    sources['train'] = data.open_source(**section['train'])
    labels = labels or sources['train'].labels
  if 'eval' in section:
    given = {'labels': labels} if labels else {}
    sources['eval'] = data.open_source(**{**given, **section['eval']})
  return sources


def round_to_devices(size: int) -> int:
  """The least batch that is not smaller and that all devices share evenly."""
  devices = jax.device_count()
  return -(-size // devices) * devices


@dataclasses.dataclass(frozen=True)
class Trained:
  """A network that a run has trained, and what is needed to use it as it was trained."""

  model: object
  variables: Mapping
  labels: tuple[str, ...]
  clip: data.EvalClip
  config: Mapping
  step: int


def load_trained(path: str, which: str = 'latest') -> Trained:
  """Loads the averaged weights of a run from its workdir.

  Args:
    path: the workdir.
    which: 'latest', 'best' or a step.

  Raises:
    FileNotFoundError: it holds no checkpoint.
  """
  folder = Path(path) / CHECKPOINTS
  config = workdir.read_config(path)
  saved = config.get('checkpoints') or {}
  which = int(which) if which.isdecimal() else which
  variables, meta = checkpoint.load_variables(
    folder,
    which,
    metric=saved.get('best_metric'),
    mode=saved.get('best_mode', 'max'),
  )
  place = folder / str(meta['step'])
  for where, known, keys in (
    (f'{path}/config.json', config, ('model', 'data', 'loader', 'eval_batch_size')),
    (place, meta, ('labels', 'preprocessing')),
  ):
    if missing := [key for key in keys if key not in known]:
      raise ValueError(f'{where} is not of a training run: it has no {missing[0]!r}')
  model = make_model(config['model'], len(meta['labels']))
  _check_weights(model, variables, place)
  return Trained(
    model=model,
    variables=variables,
    labels=tuple(meta['labels']),
    clip=call(data.EvalClip, meta['preprocessing']),
    config=config,
    step=meta['step'],
  )


def _check_weights(model, variables, place):
  """Raises a ValueError for weights that are not those of a network."""
  wanted = jax.eval_shape(lambda: load_initial(model, 0))
  wanted, found = (
    {jax.tree_util.keystr(k): v.shape for k, v in jax.tree.leaves_with_path(tree)}
    for tree in (wanted, variables)
  )
  for name in sorted(wanted | found):
    if wanted.get(name) != found.get(name):
      raise ValueError(
        f'{place} is not of the network that its config describes: {name} is '
        f'{found.get(name)}, wanted {wanted.get(name)}'
      )


def load_initial(model, seed: int, path: str = ''):
  """Variables to begin with: random, of another run's workdir, or published weights."""
  if not path:
    return models.init(model, jax.random.key(seed), (1, 1, 32, 32, 3))
  folder = Path(path) / CHECKPOINTS
  if folder.is_dir():
    variables, _ = checkpoint.load_variables(folder)
    variables, report = convert.fit(variables, model, seed=seed)
  else:
    try:
      variables, report = convert.load_with_report(path, model, seed=seed)
    except FileNotFoundError as error:
      raise FileNotFoundError(f'init: {error}, nor a workdir') from error
  print(f'Beginning with {path}\n{report}')
  return variables


def make_evaluate(
  model, source, clip, loader: Mapping, batch_size: int, *, mode=None, chunk_frames=1
):
  """Compiles the evaluation of a source once: variables -> (Evaluation, failures).

  Every video counts once, each process reading its share. Failures are the reasons of
  those that could not be decoded, by name. The mode is by default what the clip is for:
  'multiclip' if it has several views, else 'clip'.
  """
  mode = mode or ('multiclip' if clip.views > 1 else 'clip')
  step = steps.make_eval_step(model, mode=mode, chunk_frames=chunk_frames)
  predict = evaluation.make_predict(step, mesh.make_mesh())
  size = round_to_devices(batch_size)
  # A bad file of a small split must not end an evaluation: it is counted as missing.
  loader = {**loader, 'max_failed_share': 1.0}
  shard = jax.process_index(), jax.process_count()
  options = {'source': source, 'clip': clip, 'batch_size': size, 'shard': shard}

  def run(variables):
    with call(data.make_batches, loader, train=False, **options) as batches:
      shown = tqdm.tqdm(
        batches,
        desc='Evaluating',
        total=-(-len(source) // size),
        unit='batch',
        leave=False,
        disable=True if shard[0] else None,  # None: unless stderr is a terminal
      )
      views = _split_views(_until_all_failed(shown, batches, len(source)))
      expect = {'multi_label': source.multi_label, 'expected': len(source)}
      result = evaluation.evaluate(predict, variables, views, mode=mode, **expect)
    return result, evaluation.gather_failures(batches.failures)

  return run


def _until_all_failed(shown, batches, videos):
  yield from shown
  if len(batches.failures) == videos:
    named = [f'{name}: {reason}' for name, reason in batches.failures.items()]
    raise ValueError('\n  '.join(['no video could be decoded:', *named[:8]]))


def _split_views(batches):
  """Gives every view [K, T, H, W, 3] of a video a row of its own, K batches for one."""
  for batch in batches:
    if batch['video'].ndim == 5:
      yield batch
      continue
    for k in range(batch['video'].shape[1]):
      yield {**batch, 'video': batch['video'][:, k]}
