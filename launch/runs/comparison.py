"""A comparison: several trainings, each evaluated in several ways, and one picture of them all.

A training is the workdir of an ordinary one, in a folder of the comparison's workdir, so a killed
comparison resumes in the training that it was in, and other machines may train others at the same
time. An evaluation is a file, and is done again only if what it is of has changed.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from flax import traverse_util
from jax.experimental import multihost_utils

from launch.config import complete_config, merge_config
from launch.runs import results, training
from launch.runs.evaluation import make_evaluate
from launch.runs.ownership import check_owner
from launch.runs.trained import load_trained
from movinet_jax import cost, data, schema
from movinet_jax.names import check_name
from movinet_jax.schema import Count, Natural, Positive
from movinet_jax.train import evaluation
from movinet_jax.train.checkpoint import count_steps
from movinet_jax.train.workdir import (
  CHECKPOINTS,
  CONFIG,
  claim_together,
  read_config,
  replace_file,
)

_NAME = re.compile(r'[A-Za-z0-9][\w-]*')
_EVALUATIONS = 'evaluations'  # folder of the workdir


@dataclasses.dataclass(frozen=True)
class Views:
  """An evaluation of each training: what is seen of a video, and how.

  What is None is as the training's own clip.eval has it.

  Attributes:
    trainings: names of those that are evaluated so; () for all.
    mode: as of `movinet evaluate`; by default 'multiclip' for several views, else 'clip'.
    frames: of a clip.
    stride, fps: the rate of frames, one of them.
    clips, crops: of a video, whose probabilities are averaged.
    chunk: frames a call in mode 'stream'.
  """

  trainings: tuple[str, ...] = ()
  mode: Literal[evaluation.MODES] | None = None
  frames: Count | None = None
  stride: Count | None = None
  fps: Positive | None = None
  clips: Count = 1
  crops: Literal[1, 3] = 1
  chunk: Count = 1

  def find_mode(self) -> str:
    return self.mode or ('multiclip' if self.clips * self.crops > 1 else 'clip')

  def choose(self, clip: data.EvalClip) -> data.EvalClip:
    """The views, of a network that was trained to see a clip.

    Raises:
      ValueError: there are several and the mode takes one, or two rates.
    """
    if self.mode in ('clip', 'stream') and self.clips * self.crops > 1:
      raise ValueError(
        f'mode {self.mode!r} takes one view of a video, got clips={self.clips}, '
        f'crops={self.crops}: leave mode out, or these'
      )
    rate = {'stride': self.stride, 'fps': self.fps} if self.stride or self.fps else {}
    frames = {'frames': self.frames} if self.frames else {}
    return dataclasses.replace(clip.take(self.clips, self.crops), **rate, **frames)


@dataclasses.dataclass(frozen=True)
class Config:
  """The contents of a comparison's config.

  Attributes:
    base: a training config.
    trainings: by name, what each changes of it.
    evaluations: by name, those of each training.
    plot: the axes of the picture.
  """

  base: Mapping
  trainings: Mapping[str, Mapping]
  evaluations: Mapping[str, Views]
  plot: results.Plot


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A comparison, built and checked. Nothing is decoded, compiled or written yet.

  Attributes:
    config: what was resolved.
    trainings: by name.
    record: what config.json keeps of the config.
  """

  config: Config
  trainings: Mapping[str, training.Training]
  record: Mapping

  def list_evaluations(self, name: str) -> dict[str, Views]:
    """The evaluations of a training."""
    everyone = self.config.evaluations.items()
    return {one: views for one, views in everyone if name in (views.trainings or (name,))}


def read(config: Mapping) -> tuple[Config, dict[str, dict]]:
  """Checks a config as far as that goes without any data.

  Returns:
    the Config, and the config of each training by its name.

  Raises:
    ValueError: it does not fit itself; names the key.
  """
  # A ConfigDict keeps no order of its keys, and 'train16' comes after 'train8'.
  sections = ('trainings', 'evaluations')
  config = {**config, **{key: _sort(config[key]) for key in sections if key in config}}
  cfg = schema.build(Config, config, '')
  for section in sections:
    names = getattr(cfg, section)
    if not names:
      raise ValueError(f'{section} is empty; wanted one at least')
    for name in names:
      if not _NAME.fullmatch(name) or name in (_EVALUATIONS, CHECKPOINTS):
        raise ValueError(
          f'{section} has the name {name!r}; wanted letters, digits, - and _, for it names a file'
        )
  known = {name for several in (False, True) for name in evaluation.list_metrics(1000, several)}
  check_name(cfg.plot.y, known, 'metric in plot.y')
  for name, views in cfg.evaluations.items():
    for one in views.trainings:
      check_name(one, cfg.trainings, f'training in evaluations.{name}.trainings')
  configs = {
    name: merge_config(cfg.base, changes, f'trainings.{name}')
    for name, changes in cfg.trainings.items()
  }
  for name, one in configs.items():
    with _naming(f'trainings.{name}'):
      built = training.read(one)
      if built.data.eval is None:
        raise ValueError('there is no data.eval to evaluate on')
    _check_streams(cfg, name, built.model)
    for key, views in cfg.evaluations.items():
      with _naming(f'evaluations.{key}'):
        views.choose(built.clip.eval)
  return cfg, configs


def _sort(section):
  """A section by names, in which numbers count as numbers."""
  if not isinstance(section, Mapping):
    return section  # of which the schema tells what it should be
  parts = {name: re.split(r'(\d+)', name) for name in section}
  parts = {name: [int(p) if p.isdecimal() else p for p in own] for name, own in parts.items()}
  return {name: section[name] for name in sorted(section, key=parts.get)}


@contextlib.contextmanager
def _naming(place: str) -> Iterator[None]:
  """Within, a ValueError says which section it is of."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'{place}: {error}') from error


def resolve(config: Mapping) -> Comparison:
  """Builds all trainings before the first begins: a mistake in the last shows now, not in days.

  Raises:
    ValueError: a config does not fit itself or the data; names the training.
    SourceError: there is no such data.
  """
  cfg, configs = read(config)
  built, sources = {}, {}
  for name, one in configs.items():
    splits = training.read(one).data
    key = repr(splits)  # trainings on the same data open it once
    if key not in sources:
      sources[key] = training.open_sources(splits)
    with _naming(f'trainings.{name}'):
      built[name] = training.resolve(one, sources=sources[key])
      training.check_initial(built[name].config.init)
  whole = Comparison(cfg, built, complete_config(Config, config))
  _check_plot(whole)
  return whole


def _check_streams(cfg: Config, name: str, section: Mapping):
  """Checks that a training that is evaluated as a stream has a network that is one.

  Args:
    section: `model` of the training.
  """
  asked = [
    one
    for one, views in cfg.evaluations.items()
    if views.mode == 'stream' and name in (views.trainings or (name,))
  ]
  # Of how many classes it is makes no difference.
  if asked and not training.make_model(section, section.get('num_classes', 1)).spec.causal:
    raise ValueError(
      f'evaluations.{asked[0]} has mode stream, but the network of trainings.{name} is no stream: '
      f'name in evaluations.{asked[0]}.trainings those that are'
    )


def _check_plot(whole: Comparison):
  found = [
    evaluation.list_metrics(one.num_classes, one.multi_label) for one in whole.trainings.values()
  ]
  known = [name for name in found[0] if all(name in other for other in found)]
  check_name(whole.config.plot.y, known, 'metric in plot.y')


def run(config: Mapping, folder: str, only: str = '') -> list[results.Row]:
  """Trains and evaluates from wherever the workdir stands.

  Results and picture are written after each training, of what there is by then.

  Args:
    config: of the comparison.
    folder: its workdir.
    only: the training to run, by name; '' runs all.

  Returns:
    the rows of what is evaluated; [] in all processes but the first.

  Raises:
    ValueError: no such training, a config that does not fit itself or the data, or a workdir of
      another comparison.
  """
  check_owner(folder, 'compare')
  if only:  # known before any data is opened, which may write it first
    check_name(only, read(config)[1], 'training of this comparison')
  whole = resolve(config)
  home = Path(folder)
  claim_together(folder, whole.record, _list_free(whole, home))
  ended, done = _find_done(whole, home)
  chosen, rows = [only] if only else list(whole.trainings), []
  for number, name in enumerate(chosen, 1):
    place = f'{home / name} ({number} of {len(chosen)})'
    if name in ended:
      _tell(f'== {place} is trained')
      # Its evaluations read their data, and how much at a time, from its folder.
      claim_together(home / name, whole.trainings[name].record, training.FREE)
    else:
      _tell(f'== Training {place}')
      training.run(whole.trainings[name], str(home / name))
    left = {
      one: views for one, views in whole.list_evaluations(name).items() if (name, one) not in done
    }
    if left:
      _evaluate(whole, home, name, left)
    if left or number == len(chosen):
      rows = _conclude(whole, home)
  return rows


def _list_free(whole: Comparison, home: Path) -> set[str]:
  """Keys that may change when the comparison resumes: all that no result depends on.

  Evaluations look themselves for what they are of. A training that has not begun is free.
  """
  was = read_config(home) if (home / CONFIG).exists() else {}
  names = {*whole.trainings, *(was.get('trainings') or {})}
  waiting = {name for name in names if not count_steps(home / name / CHECKPOINTS)}
  free = {f'base.{key}' for key in training.FREE}
  free |= {f'trainings.{name}.{key}' for name in names for key in training.FREE}
  for section in ('evaluations', 'plot', *(f'trainings.{name}' for name in waiting)):
    free |= {section, f'{section}.'}
  return free


def _find_done(whole: Comparison, home: Path) -> tuple[set[str], set[tuple[str, str]]]:
  """Trainings that have ended and, of them, evaluations that are there.

  The first process looks, so that all of a run agree.
  """
  ended = [count_steps(home / name / CHECKPOINTS) for name in whole.trainings]
  totals = [one.config.loop.total_steps for one in whole.trainings.values()]
  flags = [max(n, default=0) >= total for n, total in zip(ended, totals, strict=True)]
  pairs = list(_list_pairs(whole))
  flags += [_read_done(whole, home, *pair) is not None for pair in pairs]
  if jax.process_count() > 1:
    flags = multihost_utils.broadcast_one_to_all(np.asarray(flags, np.int32)).astype(bool).tolist()
  trained = {name for name, flag in zip(whole.trainings, flags, strict=False) if flag}
  seen = zip(pairs, flags[len(totals) :], strict=True)
  return trained, {pair for pair, flag in seen if flag and pair[0] in trained}


def _list_pairs(whole: Comparison) -> Iterator[tuple[str, str]]:
  for name in whole.trainings:
    for one in whole.list_evaluations(name):
      yield name, one


def _describe(one: training.Training, name: str, views: Views) -> dict:
  """What an evaluation is of, as JSON."""
  # What a result does not depend on is left out, as it is where a training resumes.
  flat = traverse_util.flatten_dict(dict(one.record), keep_empty_nodes=True, sep='.')
  fixed = {key: repr(value) for key, value in flat.items() if key not in training.FREE}
  text = json.dumps(fixed, sort_keys=True)
  subject = {
    'training': name,
    'config': hashlib.sha256(text.encode()).hexdigest(),
    'step': one.config.loop.total_steps,
    'data': one.config.data.eval,
    'clip': dataclasses.asdict(views.choose(one.config.clip.eval)),
    'mode': views.find_mode(),
    'chunk': views.chunk if views.mode == 'stream' else None,
  }
  return json.loads(json.dumps(subject))


@dataclasses.dataclass(frozen=True)
class _Summary:
  """What is read of the file of an evaluation."""

  metrics: Mapping
  evaluated: Count
  missing: Natural | None
  macs: Count


def _name_file(home: Path, name: str, one: str) -> Path:
  return home / _EVALUATIONS / name / f'{one}.json'


def _read_done(whole: Comparison, home: Path, name: str, one: str) -> dict | None:
  """What an evaluation found; None if it was not done, or was of something else."""
  path = _name_file(home, name, one)
  wanted = _describe(whole.trainings[name], name, whole.config.evaluations[one])
  try:
    summary = json.loads(path.read_text())
    if summary['of'] != wanted:
      return None
    schema.build(_Summary, {key: summary[key] for key in _Summary.__annotations__}, '')
    float(summary['metrics'][whole.config.plot.y])  # others may be anything, such as no number
  except FileNotFoundError:
    return None
  except (ValueError, TypeError, KeyError):
    raise FileExistsError(f'{path} is no evaluation of a comparison: remove it') from None
  return summary


def _evaluate(whole: Comparison, home: Path, name: str, left: Mapping[str, Views]):
  """Evaluates a training, each time on the clip of an evaluation, and writes what was found."""
  trained = load_trained(str(home / name))
  variables, source = trained.complete(), trained.open_eval(trained.eval_section)
  for one, views in left.items():
    clip, mode = views.choose(trained.clip), views.find_mode()
    _tell(f'== Evaluating {name}, {one}: {results.describe_clip(clip)}')
    how = {'mode': mode, 'chunk_frames': views.chunk}
    run_one = make_evaluate(
      trained.model, source, clip, trained.loader, trained.eval_batch_size, **how
    )
    found, failures = run_one(variables)
    if jax.process_index():
      continue
    macs = cost.count(trained.model, (1, clip.frames, clip.size, clip.size, 3)).macs
    summary = {
      'of': _describe(whole.trainings[name], name, views),
      'metrics': found.metrics,
      'evaluated': found.evaluated,
      'missing': found.missing,
      'failures': failures,
      'macs': macs * clip.views,
      'secs': found.secs,
    }
    path = _name_file(home, name, one)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(summary, indent=2) + '\n')


def _conclude(whole: Comparison, home: Path) -> list[results.Row]:
  """Writes the results of all evaluations that are there, and their picture."""
  if jax.process_index():
    return []
  rows = []
  for name, one in _list_pairs(whole):
    summary = _read_done(whole, home, name, one)
    if summary is not None:
      rows.append(_make_row(whole.trainings[name], name, one, summary))
  if rows:
    results.write(rows, whole.config.plot, home)
  return rows


def _make_row(built: training.Training, name: str, one: str, summary: Mapping) -> results.Row:
  clip = schema.call(data.EvalClip, summary['of']['clip'], 'clip')
  ours = built.config.clip.train
  facts = {
    'training': name,
    'evaluation': one,
    'network': built.config.model['name'],
    'seed': built.config.seed,
    'train_frames': ours.frames,
    'train_rate': results.say_rate(ours),
    'frames': clip.frames,
    'rate': results.say_rate(clip),
    'clips': clip.clips,
    'crops': clip.crops,
    'seen': clip.frames * clip.clips,
    'size': clip.size,
    'mode': summary['of']['mode'],
    'gmacs': summary['macs'] / 1e9,
  }
  return results.Row(facts, summary['metrics'], summary['evaluated'], summary['missing'])


def _tell(line: str):
  if not jax.process_index():
    print(line, file=sys.stderr, flush=True)
