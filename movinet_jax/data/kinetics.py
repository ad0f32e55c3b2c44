"""Kinetics-400, 600 and 700: official CSV files and a folder of videos -> ArrayRecord.

The pattern for other datasets. In two steps, because tfds cannot resume a build:

1. `prepare` finds the video of each row and, in processes with a time limit, decodes it
   whole; or cuts and re-encodes it. It writes a manifest row by row and goes on where it
   stopped. This takes the time.
2. `build` only copies bytes into ArrayRecord files, minutes even for 600 classes.

Carreira et al., arXiv:1808.01340 (600) and 1907.06987 (700); Kay et al., 1705.06950 (400).
"""

import collections
import dataclasses
import json
import os

import tensorflow_datasets as tfds
import tqdm

from movinet_jax.data import source as sources
from movinet_jax.data.builders.kinetics import VERSIONS
from movinet_jax.data.limited import go_on, run_limited
from movinet_jax.data.manifest import append_rows, one_line, read_rows
from movinet_jax.data.reader import count_frames
from movinet_jax.data.source import SourceError
from movinet_jax.data.sources.tfds import open_builder, read_metadata, write_labels
from movinet_jax.data.spelling import spell, spell_label, unspell
from movinet_jax.data.transcode import write_cut
from movinet_jax.names import suggest

# DeepMind's archives say validate, CVDF's say val.
_SPLIT_FILES = {
  'train': ('train.csv',),
  'validation': ('validate.csv', 'val.csv', 'validation.csv'),
  'test': ('test.csv',),
}
# `bytes` is the size of the file that was found, `video` the clip that is to be used.
_HEADER = ('split', 'name', 'label', 'bytes', 'video', 'reason')


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of an official CSV file; the label is '' where it has none."""

  split: str
  youtube_id: str
  start_secs: float
  stop_secs: float
  label: str

  @property
  def stem(self) -> str:
    """Name of the clip's file, without suffix, as the usual downloaders write it."""
    return f'{self.youtube_id}_{int(self.start_secs):06d}_{int(self.stop_secs):06d}'

  @property
  def name(self) -> str:
    return f'{self.split}/{self.stem}'


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of the rows of each split, and where the result lies."""

  counts: dict[str, dict[str, int]]  # split -> listed, found, missing, undecodable, good
  empty_classes: tuple[str, ...]  # without a good clip in the first split
  doubles: tuple[str, ...]  # stems of which there are several files
  folder: str


def read_annotations(folder: str) -> list[Row]:
  """Reads the official CSV files of a folder by their header, whatever its order.

  Raises:
    SourceError: no such folder or file, or a row that cannot be read; names file and line.
  """
  if not os.path.isdir(folder):
    raise SourceError(f'there is no folder {folder} of annotation files')
  clips = []
  for split, names in _SPLIT_FILES.items():
    paths = [os.path.join(folder, name) for name in names]
    paths = [path for path in paths if os.path.exists(path)]
    if len(paths) > 1:
      raise SourceError(f'{paths[0]} and {paths[1]} are both for {split}; remove one')
    for path in paths:
      clips += _read_split(path, split)
  if not clips:
    wanted = ', '.join(names[0] for names in _SPLIT_FILES.values())
    raise SourceError(f'{folder} has none of the annotation files {wanted}')
  return clips


def _read_split(path: str, split: str) -> list[Row]:
  clips, lines = [], {}
  with sources.open_text(path, 'annotation file') as file:
    rows = sources.split_rows(file, path, skipinitialspace=True)
    _, names = next(rows, (1, []))
    header = _read_header(names, split, path)
    for line, fields in rows:
      if not fields:
        continue
      row = {**dict.fromkeys(header), **dict(zip(header, fields, strict=False))}
      clip = _parse_row(row, split, f'{path} line {line}')
      if clip.stem in lines:
        raise SourceError(f'{path} line {line}: {clip.stem} is in line {lines[clip.stem]} already')
      lines[clip.stem] = line
      clips.append(clip)
  return clips


def _read_header(names: list[str], split: str, path: str) -> list[str]:
  """The names of the columns without spaces around them; fails if one is missing."""
  header = [name.strip() for name in names]
  needed = {'youtube_id', 'time_start', 'time_end'}
  # Some releases of the test list have no labels; a list to learn from needs them.
  needed |= set() if split == 'test' else {'label'}
  if missing := sorted(needed - set(header)):
    raise SourceError(f'{path}: no column {missing[0]!r}; it has {", ".join(header)}')
  return header


def _parse_row(row: dict[str, str], split: str, where: str) -> Row:
  # Excel and some scripts write times as 12.0 and labels with spaces around them.
  youtube_id = (row['youtube_id'] or '').strip()
  label = spell_label((row.get('label') or '').strip())
  try:
    start, stop = float(row['time_start']), float(row['time_end'])
  except (TypeError, ValueError):
    times = f'{row["time_start"]!r} to {row["time_end"]!r}'
    raise SourceError(f'{where}: wanted times in seconds, got {times}') from None
  if not youtube_id or not 0 <= start < stop:
    raise SourceError(
      f'{where}: wanted an id and 0 <= time_start < time_end, '
      f'got {youtube_id!r}, {start:g}, {stop:g}'
    )
  if not label and split != 'test':
    raise SourceError(f'{where}: {youtube_id} has no label')
  return Row(split, youtube_id, start, stop, label)


def make_labels(clips: list[Row]) -> tuple[str, ...]:
  """The label map: sorted names as written in the training rows, or in all others."""
  train = {clip.label for clip in clips if clip.split == 'train' and clip.label}
  return tuple(sorted(train or {clip.label for clip in clips if clip.label}))


def prepare(
  annotations: str,
  videos: str,
  out: str,
  *,
  labels: str | None = None,
  short_side: int | None = None,
  workers: int = 1,
  limit_secs: float = 120.0,
  progress: bool = True,
) -> Report:
  """Finds, checks, and where asked re-encodes, the clip of every row.

  Args:
    annotations: folder of the official CSV files.
    videos: folder of videos, in any sub-folders. A file called `ID_000012_000022.*` is a
      clip as it is; one called `ID.*` is the whole video, from which the clip is cut.
    out: folder for the label map, the manifest and the clips that are written.
    labels: label map to use instead of the sorted training labels.
    short_side: re-encode to this short side with a short GOP; None leaves cut clips as
      they are and re-encodes only those that have to be cut.
    workers: files at once.
    limit_secs: a file of which no frame comes for this long is bad.
    progress: whether to draw a bar.

  Returns:
    A Report. Rerun to go on after a stop, or after more videos have come: what is good is
    not done again, nor what is undecodable while the file has the same size.

  Raises:
    SourceError: annotations that cannot be read; other settings than in `out` before.
  """
  clips = read_annotations(annotations)
  names = sources.read_labels(labels) or make_labels(clips)
  _check_labels(clips, names, annotations)
  os.makedirs(out, exist_ok=True)
  _write_settings(out, names, {'short_side': short_side})
  files, doubles = _find_videos(videos)
  manifest = os.path.join(out, 'clips.csv')
  known = {row['name']: row for row in read_rows(manifest, _HEADER)}
  good = {name for name, row in known.items() if _is_good(out, row)}
  jobs = []
  for clip in clips:
    path = files.get(clip.stem) or files.get(clip.youtube_id)
    job = _Job(clip, os.path.abspath(path or ''), os.path.abspath(out), short_side)
    if path and clip.name not in good and not job.failed_before(known.get(clip.name)):
      jobs.append(job)
  with append_rows(manifest, _HEADER) as write_row:
    ended = run_limited(_do, jobs, workers=workers, limit_secs=limit_secs)
    for job, reason in tqdm.tqdm(ended, total=len(jobs), unit='clip', disable=not progress):
      clip, size = job.clip, os.path.getsize(job.video)
      row = (clip.split, clip.name, clip.label, size, spell(job.result), one_line(reason))
      write_row(row)
      if not reason:
        good.add(clip.name)
  return _make_report(clips, names, files, good, doubles, out)


@dataclasses.dataclass(frozen=True)
class _Job:
  clip: Row
  video: str
  out: str
  short_side: int | None

  @property
  def cut(self) -> bool:
    """Whether the file is a whole YouTube video rather than the clip."""
    return _stem(self.video) != self.clip.stem

  @property
  def result(self) -> str:
    """Path of the clip: absolute, or relative to `out` if it is written there."""
    if self.cut or self.short_side:
      return os.path.join('clips', f'{self.clip.name}.mp4')
    return self.video

  def failed_before(self, row: dict[str, str] | None) -> bool:
    """Whether this very file was found undecodable."""
    same = row is not None and int(row['bytes']) == os.path.getsize(self.video)
    return same and bool(row['reason'])


def _do(job: _Job):
  """Runs in a process of its own; DecodeError says what is wrong with the file."""
  if job.result == job.video:
    count_frames(job.video, on_frame=go_on)
    return
  path = os.path.join(job.out, job.result)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  start, stop = (job.clip.start_secs, job.clip.stop_secs) if job.cut else (0.0, None)
  part = {'start_secs': start, 'stop_secs': stop, 'short_side': job.short_side}
  write_cut(job.video, path, **part, on_frame=go_on)


def _find_videos(folder: str) -> tuple[dict[str, str], tuple[str, ...]]:
  """Path by stem of all videos below a folder; of several, the first in order."""
  sources.list_folder(folder)  # a clear error if it cannot be read
  files, doubles = {}, set()

  def fail(error: OSError):
    raise SourceError(f'cannot read the folder {error.filename}: {error.strerror}')

  for home, folders, names in os.walk(folder, onerror=fail):
    folders[:] = sorted(name for name in folders if not sources.is_hidden(name))
    for name in sorted(names):
      stem, suffix = os.path.splitext(name)
      if suffix.lower() not in sources.VIDEO_SUFFIXES or sources.is_hidden(name):
        continue
      if stem in files:
        doubles.add(stem)
      files.setdefault(stem, os.path.join(home, name))
  return files, tuple(sorted(doubles))


def _stem(path: str) -> str:
  return os.path.splitext(os.path.basename(path))[0]


def _is_good(out: str, row: dict[str, str]) -> bool:
  return not row['reason'] and os.path.isfile(_find_clip(out, row))


def _find_clip(out: str, row: dict[str, str]) -> str:
  return os.path.join(out, unspell(row['video']))


def _check_labels(clips: list[Row], names: tuple[str, ...], annotations: str):
  numbers = {name: number for number, name in enumerate(names)}
  for clip in clips:
    if clip.label:
      where = f'{annotations}, {clip.split} row of {clip.youtube_id}'
      sources.find_label(clip.label, numbers, where)


def _write_settings(out: str, names: tuple[str, ...], settings: dict):
  """Keeps settings and label map beside the clips; refuses to mix two kinds."""
  wanted = {'prepare.json': json.dumps(settings) + '\n'}
  wanted['labels.txt'] = ''.join(f'{name}\n' for name in names)
  for file_name, text in wanted.items():
    path = os.path.join(out, file_name)
    if os.path.exists(path):
      with open(path, encoding='utf-8') as file:
        there = file.read()
      if there != text:
        raise SourceError(
          f'{out} was prepared otherwise: its {file_name} differs ({there.strip()[:60]!r} '
          f'there, {text.strip()[:60]!r} now); take another folder'
        )
      continue
    with open(path, 'w', encoding='utf-8') as file:
      file.write(text)


def _make_report(clips, names, files, good, doubles, out) -> Report:
  counts, filled = {}, set()
  for clip in clips:
    split = counts.setdefault(clip.split, collections.Counter())
    found = clip.stem in files or clip.youtube_id in files
    split['listed'] += 1
    split['found' if found else 'missing'] += 1
    split['good'] += clip.name in good
    split['undecodable'] += found and clip.name not in good
    if clip.name in good and clip.split == clips[0].split:
      filled.add(clip.label)
  stems = {clip.stem for clip in clips}
  empty = tuple(name for name in names if name not in filled)
  doubles = tuple(stem for stem in doubles if stem in stems)
  return Report({k: dict(v) for k, v in counts.items()}, empty, doubles, out)


class Kinetics(tfds.core.GeneratorBasedBuilder):
  """tfds builder that copies prepared clips; `prepared` is the folder of `prepare`."""

  # Plain class attributes, because tfds looks for them so.
  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First.'}  # noqa: RUF012
  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name=name, description=f'Kinetics-{name}') for name in VERSIONS
  ]

  # Nothing is downloaded. Without this tfds looks for checksums beside this file, through
  # a package (importlib_resources) that it does not install.
  code_path = None

  def __init__(self, *, prepared: str, **kwargs):
    self._prepared = prepared
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    names = sources.read_labels(os.path.join(self._prepared, 'labels.txt'))
    features = {
      'video': tfds.features.Text(),  # bytes of the file as they are; never decoded
      'label': tfds.features.ClassLabel(names=names),
      'name': tfds.features.Text(),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.builder_config.description,
      features=tfds.features.FeaturesDict(features),
      homepage='https://github.com/cvdfoundation/kinetics-dataset',
      metadata=tfds.core.MetadataDict(
        digests=self._make_digests(),
        short_side=json.loads(self._read_settings())['short_side'],
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    splits = read_prepared(self._prepared)
    return {split: self._generate_examples(rows) for split, rows in splits.items()}

  def _generate_examples(self, rows):
    for name, label, path in rows:
      with open(path, 'rb') as file:
        # -1 is tfds's number for no label, which the test lists of some releases lack.
        yield name, {'video': file.read(), 'label': label or -1, 'name': name}

  def _make_digests(self) -> dict[str, str]:
    """Identity of each split that has labels: names, labels, and how clips were made."""
    settings = self._read_settings()
    return {
      split: sources.make_digest(((name, label) for name, label, _ in rows), [settings])
      for split, rows in read_prepared(self._prepared).items()
      if all(label for _, label, _ in rows)
    }

  def _read_settings(self) -> str:
    with open(os.path.join(self._prepared, 'prepare.json'), encoding='utf-8') as file:
      return file.read()


def read_prepared(prepared: str) -> dict[str, list[tuple[str, str, str]]]:
  """(name, label, path) of the good clips of each split, by name."""
  rows = {row['name']: row for row in read_rows(f'{prepared}/clips.csv', _HEADER)}
  splits = {}
  for name in sorted(rows):
    if _is_good(prepared, rows[name]):
      row = (name, rows[name]['label'], _find_clip(prepared, rows[name]))
      splits.setdefault(rows[name]['split'], []).append(row)
  if not splits:
    raise SourceError(f'{prepared} holds no good clip; run the first step on it')
  return splits


def build(prepared: str, data_dir: str, version: str) -> str:
  """Copies prepared clips into ArrayRecord files; at once if that was done before.

  Then lists the labels of the records, also of a dataset that was built before it did so.

  Returns:
    The folder to give to `open_source('tfds', directory=…)`.

  Raises:
    SourceError: the folder there was built from other clips.
  """
  if version not in VERSIONS:
    known = suggest(version, VERSIONS)
    raise SourceError(f'no version {version!r} of Kinetics{known}')
  there = os.path.join(data_dir, Kinetics.name, version, str(Kinetics.VERSION))
  if is_built := os.path.exists(os.path.join(there, 'dataset_info.json')):
    open_builder(there)  # Names a damaged file, which tfds would not.
  builder = Kinetics(
    prepared=prepared, config=version, data_dir=data_dir, file_format='array_record'
  )
  wanted = builder._make_digests()
  if is_built:
    if read_metadata(str(builder.data_path))['digests'] != wanted:
      raise SourceError(
        f'{builder.data_path} was built from other clips than {prepared} holds now; '
        'remove it or take another data_dir'
      )
  else:
    builder.download_and_prepare()
  write_labels(str(builder.data_path))
  return str(builder.data_path)
