"""Writes the folder: the page, the network and its runtime."""

import importlib.resources
import shutil
from pathlib import Path

from movinet_jax.export import artifact
from movinet_jax.export.formats import tflite
from movinet_jax.export.web.packages import PACKAGES, find_packages

MODEL = tflite.FILE
RUNTIME = 'litertjs'
_PAGE = ('index.html', 'page.js', 'page.css', 'worker.js')
# A worker has no import map, so the one bare name becomes a file's. Browsers' tools would look for
# the map of the source, which is not copied.
_BARE, _BESIDE = b'"@litertjs/wasm-utils"', b'"./wasm-utils.js"'
_MAP = b'//# sourceMappingURL='


def write_web(exported: Path, out: Path, litertjs: Path | None = None):
  """Writes a folder that any static server can show, at any path and without a network.

  Files of the same names in the folder are overwritten.

  Args:
    exported: folder of `export.write` that holds model.tflite.
    out: folder to write; it may be there.
    litertjs: folder with the tarballs of LiteRT.js; by default npm downloads them.

  Raises:
    ValueError: there is no model.tflite, or it takes several videos at once; or LiteRT.js cannot be
      had (`find_packages`). Errors of `artifact.read` for the rest of the folder.
  """
  _check_artifact(exported)
  files = find_packages(litertjs)
  runtime = out / RUNTIME
  runtime.mkdir(parents=True, exist_ok=True)
  for name, content in files.items():
    (runtime / name).write_bytes(_adapt(content) if name.endswith('.js') else content)
  here = importlib.resources.files(__package__)
  (runtime / 'LICENSE').write_bytes(here.joinpath('apache-2.0.txt').read_bytes())
  (runtime / 'README.txt').write_text(_describe(), 'utf-8')
  for name in _PAGE:
    (out / name).write_bytes(here.joinpath('page', name).read_bytes())
  for name in (MODEL, artifact.MANIFEST, artifact.LABELS):
    if (out / name).resolve() != (exported / name).resolve():
      shutil.copyfile(exported / name, out / name)


def _check_artifact(folder: Path):
  if not (folder / MODEL).is_file():
    raise ValueError(f'{folder} has no {MODEL}: export the network with --to=tflite too')
  batch = artifact.read(folder / MODEL).manifest.batch
  if batch != 1:
    raise ValueError(
      f'{folder / MODEL} takes {batch} videos at once, and a page has one: export the network with '
      '--batch=1'
    )


def _adapt(script: bytes) -> bytes:
  return script.replace(_BARE, _BESIDE).partition(_MAP)[0]


def _describe() -> str:
  names = ' and '.join(package.address for package in PACKAGES)
  return (
    f'{names}, from https://www.npmjs.com, Copyright Google LLC, under the\n'
    'Apache License 2.0, which lies beside this file.\n'
    '\n'
    'Changed: index.js imports "./wasm-utils.js" in place of "@litertjs/wasm-utils", and comments\n'
    'that name source maps are left out.\n'
  )
