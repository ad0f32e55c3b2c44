"""Exported networks: a folder of files that run elsewhere, and what they are.

  model.tflite, model.onnx, model.stablehlo, savedmodel/
  labels.txt: the name of each class, a line each
  model.json: what goes in and comes out, and how far each file is from the network

Whoever runs a file in another language needs one rule. All states are zeros when a video begins,
and after each call every output goes to the input of its name.
"""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from movinet_jax import schema
from movinet_jax.convert import About
from movinet_jax.export import formats, parity
from movinet_jax.export.interface import Interface
from movinet_jax.export.program import ExportError
from movinet_jax.export.session import Session
from movinet_jax.export.source import Source
from movinet_jax.schema import Count

VERSION = 1
MANIFEST, LABELS = 'model.json', 'labels.txt'
_MODULES = ('movinet_jax', 'jax', 'flax')  # whose versions every folder tells


@dataclasses.dataclass(frozen=True)
class File:
  """One file of a folder.

  Attributes:
    format: one of `formats`.
    weights: how they are stored, one of `weights.Kind`.
    bytes: its size; of a folder that of all its files.
    sha256: of its contents.
    inputs, outputs, states: see `interface.Interface`.
    parity: what it differed by when it was written.
    runtime: in which that was measured, with its version.
  """

  format: str
  weights: str
  bytes: int
  sha256: str
  inputs: Mapping[str, Mapping]
  outputs: Mapping[str, Mapping]
  states: Mapping[str, str]
  parity: parity.Parity
  runtime: str

  @property
  def interface(self) -> Interface:
    return schema.build(
      Interface, {key: getattr(self, key) for key in ('inputs', 'outputs', 'states')}, ''
    )


@dataclasses.dataclass(frozen=True)
class Image:
  """What a frame is: RGB [H, W, 3] in [0, 1]."""

  height: Count
  width: Count
  layout: Literal['NHWC'] = 'NHWC'
  channels: Literal['RGB'] = 'RGB'
  range: tuple[float, float] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Manifest:
  """The contents of `model.json`.

  Attributes:
    format_version: of this file.
    network: 'movinet/a2-stream', or the family where the network has no name.
    family, spec: its architecture.
    checkpoint: which weights: `version`, a step or a hash, and `sha256` of all of them.
    exported: the date.
    versions: of what it was exported with.
    frames: that one call sees: the next ones of a stream, or a clip.
    batch: videos that it was exported for; None for any number. A shape that begins with null
      takes any number, too.
    image: what a frame is.
    preprocessing: which frames of a video it sees: arguments of data.EvalClip.
    classes: N.
    probabilities: what makes probabilities of logits.
    files: by name.
  """

  format_version: Literal[1]
  network: str
  family: str
  spec: Mapping
  checkpoint: Mapping
  exported: str
  versions: Mapping[str, str]
  frames: Count
  batch: Count | None
  image: Image
  preprocessing: Mapping
  classes: Count
  probabilities: Literal['softmax', 'sigmoid']
  files: Annotated[Mapping[str, File], schema.SOME]


@dataclasses.dataclass(frozen=True)
class Artifact:
  """A file of a folder, to run.

  Attributes:
    path: of the file.
    manifest: of its folder.
    labels: the name of each class.
  """

  path: Path
  manifest: Manifest
  labels: tuple[str, ...]

  @property
  def file(self) -> File:
    return self.manifest.files[self.path.name]

  @property
  def name(self) -> str:
    return self.manifest.network

  def make_session(self, batch: int = 1, threads: int | None = None) -> Session:
    """A stream through the file in its own runtime.

    Args:
      batch: videos at a time, where the file takes any number.
      threads: of the runtime; by default its own choice.

    Raises:
      ExportError: the runtime is not installed; says how to.
    """
    form = formats.load(self.file.format)
    check_installed(form.RUNS)
    if threads and not form.THREADS:
      raise ExportError(f'the runtime of {self.path} chooses its threads: leave out --threads')
    return form.make_session(self.path, self.file.interface, batch, threads)


def check_installed(modules: Sequence[str]):
  """Raises ExportError for what is missing, with the line that installs it."""
  if missing := formats.find_missing(modules):
    names = ' and '.join(missing)
    raise ExportError(f"not installed: {names}; run pip install 'movinet-jax[export]'")


def write(
  out: Path,
  source: Source,
  about: About,
  checkpoint: Mapping,
  names: Sequence[str],
  weights: str = 'float32',
  *,
  complete: Callable[[Path], None] = lambda folder: None,
  say: Callable[[str], None] = lambda line: None,
) -> Manifest:
  """Writes a folder, and proves each file in its runtime; the folder is there whole or not at all.

  Args:
    out: a folder that is not there yet.
    about: the network, its classes and what it sees of a video.
    checkpoint: which weights.
    names: of formats.
    weights: how they are stored.
    complete: adds to the folder what else belongs there, before anybody sees it.
    say: is told what takes long.

  Raises:
    ExportError: a format cannot say the network, or a file differs from it by too much.
    FileExistsError: the folder is there already.
  """
  out = Path(out)
  check_free(out)
  check_labels(about.labels)
  out.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=f'.{out.name}.', dir=out.parent) as folder:
    home = Path(folder) / out.name
    home.mkdir()
    say('Running the network itself, to compare with')
    reference, files = parity.Reference(source), {}
    for name in names:
      say(f'Writing {formats.load(name).FILE}')
      files[formats.load(name).FILE] = _write_file(home, name, source, weights, reference)
    manifest = _describe(source, about, checkpoint, files)
    write_json(home / MANIFEST, manifest)
    (home / LABELS).write_bytes(''.join(f'{label}\n' for label in about.labels).encode())
    complete(home)
    os.replace(home, out)
  return manifest


def check_free(out: Path):
  """Raises an error where a folder cannot be written, or something is there already."""
  if os.path.lexists(out):
    raise FileExistsError(f'{out} exists already: remove it, or choose another folder')
  near = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
  if not near.is_dir() or not os.access(near, os.W_OK):
    raise ValueError(f'{out} cannot be written: {near} is no folder that you may write to')


def check_labels(labels: Sequence[str]):
  """Raises ExportError for a name that is no line of a file."""
  for number, label in enumerate(labels):
    if '\n' in label:
      raise ExportError(
        f'class {number} is called {label!r}, which is more than one line: give other names with '
        '--labels=FILE'
      )


def _write_file(home: Path, name: str, source: Source, weights: str, reference) -> File:
  form = formats.load(name)
  path = home / form.FILE
  interface = form.write(source, path, weights)
  found = reference.compare(form.make_session(path, interface, reference.batch), weights)
  parity.check(found, form.FILE, weights)
  return File(
    format=name,
    weights=weights,
    bytes=sum(one.stat().st_size for one in _list_files(path)),
    sha256=hash_file(path),
    **dataclasses.asdict(interface),
    parity=found,
    runtime=name_runtime(form.RUNS),
  )


def _list_versions(files: Mapping[str, File]) -> dict[str, str]:
  """Lists the packages that made and ran some files, with their versions."""
  used = set(_MODULES)
  for file in files.values():
    form = formats.load(file.format)
    used |= {*form.NEEDS, *form.RUNS, *form.CONVERTERS}
  names = importlib.metadata.packages_distributions()
  found = sorted(names[module][0] for module in used if module in names)
  return {name: importlib.metadata.version(name) for name in found}


def name_runtime(modules: Sequence[str]) -> str:
  """The package that a file was run with, and its version."""
  (module,) = modules or ('jax',)
  (package, *_) = importlib.metadata.packages_distributions()[module]
  return f'{package} {importlib.metadata.version(package)}'


def _describe(source: Source, about: About, checkpoint: Mapping, files) -> Manifest:
  height, width = source.size
  return Manifest(
    format_version=VERSION,
    network=about.name or about.family,
    family=about.family,
    spec=about.spec,
    checkpoint=dict(checkpoint),
    exported=datetime.date.today().isoformat(),
    versions=_list_versions(files),
    frames=source.frames,
    batch=source.batch,
    image=Image(height, width),
    preprocessing=about.preprocessing,
    classes=about.num_classes,
    probabilities='sigmoid' if about.multi_label else 'softmax',
    files=files,
  )


def write_json(path: Path, manifest: Manifest):
  text = json.dumps(dataclasses.asdict(manifest), indent=1, allow_nan=False)
  path.write_text(text + '\n', encoding='utf-8')


def read(path: str | Path) -> Artifact:
  """A file of a folder, by its path, or by that of a folder with one file only.

  Raises:
    FileNotFoundError: there is none, or no `model.json` beside it.
    ValueError: what `model.json` says is damaged, of another version, or of another file.
  """
  path = Path(path)
  if path.is_dir() and (path / MANIFEST).exists():
    path = path / _choose_file(path, read_manifest(path))
  if not path.exists():
    raise FileNotFoundError(f'there is no {path}: wanted a file of `movinet export`')
  manifest = read_manifest(path.parent)
  if path.name not in manifest.files:
    raise ValueError(
      f'{path.parent / MANIFEST} says nothing of {path.name}, but of {", ".join(manifest.files)}'
    )
  if hash_file(path) != manifest.files[path.name].sha256:
    raise ValueError(
      f'{path} is not the file that {MANIFEST} beside it describes: export it again, or bring both '
      'from one folder'
    )
  file, labels = manifest.files[path.name], _read_labels(path.parent / LABELS)
  if not {*file.states} <= {*file.inputs} or not {*file.states.values()} <= {*file.outputs}:
    raise ValueError(f'{path.parent / MANIFEST} has states that {path.name} has not')
  if len(labels) != manifest.classes:
    raise ValueError(
      f'{path.parent / LABELS} has {len(labels)} lines, and the network {manifest.classes} classes'
    )
  return Artifact(path, manifest, tuple(labels))


def _read_labels(path: Path) -> list[str]:
  try:
    return path.read_bytes().decode().split('\n')[:-1]
  except FileNotFoundError as error:
    raise FileNotFoundError(f'there is no {path}, which names the classes') from error
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not UTF-8: {error}') from error


def is_artifact(path: str | Path) -> bool:
  """Whether a path is that of an exported file, or of a folder of those."""
  path = Path(path)
  if not path.exists():
    return False
  folder, name = (path.parent, path.name) if (path.parent / MANIFEST).exists() else (path, '')
  try:
    found = json.loads((folder / MANIFEST).read_text())
  except (OSError, ValueError):
    return False
  files = found.get('files') if isinstance(found, dict) else None
  return isinstance(files, dict) and (name in files if name else 'format_version' in found)


def _choose_file(folder: Path, manifest: Manifest) -> str:
  names = list(manifest.files)
  if len(names) > 1:
    raise ValueError(f'{folder} has several files, so name one: {", ".join(names)}')
  return names[0]


def read_manifest(folder: Path) -> Manifest:
  """What `model.json` of a folder says.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is damaged, or of another version.
  """
  path = folder / MANIFEST
  if not path.exists():
    raise FileNotFoundError(
      f'there is no {path}: a model file is run with what `movinet export` wrote beside it'
    )
  try:
    return schema.build(Manifest, json.loads(path.read_text()), '')
  except ValueError as error:
    raise ValueError(f'{path} is no description of an exported network: {error}') from error


def hash_file(path: Path) -> str:
  """SHA-256 of a file; of a folder that of its files and their names."""
  digest = hashlib.sha256()
  for one in _list_files(path):
    if path.is_dir():
      digest.update(str(one.relative_to(path)).encode())
    digest.update(one.read_bytes())
  return digest.hexdigest()


def _list_files(path: Path) -> list[Path]:
  if path.is_file():
    return [path]
  return sorted(one for one in path.rglob('*') if one.is_file())
