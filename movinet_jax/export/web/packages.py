"""LiteRT.js from npm: downloaded once, or given, and always checked against its digest.

`npm view @litertjs/core@2.5.3 dist.integrity` prints the digest that the registry states.
"""

import base64
import dataclasses
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

_BUILDS = ('litert_wasm_internal', 'litert_wasm_compat_internal')
_WASM = [f'{build}.{kind}' for build in _BUILDS for kind in ('js', 'wasm')]
_SECS = 300.0


@dataclasses.dataclass(frozen=True)
class Package:
  """A package of npm.

  Attributes:
    sha512: of its tarball, in base64.
    files: by name in the folder that is written: name in the package.
  """

  name: str
  version: str
  sha512: str
  files: Mapping[str, str]

  @property
  def address(self) -> str:
    """What npm calls it."""
    return f'{self.name}@{self.version}'

  @property
  def tarball(self) -> str:
    """What `npm pack` calls its file."""
    return f'{self.name.removeprefix("@").replace("/", "-")}-{self.version}.tgz'


# Of the four builds of the WASM, browsers without relaxed SIMD, such as Safari, need `compat`. The
# other two are left out: JSPI is for WebGPU, and threads want headers that few static servers send.
PACKAGES = (
  Package(
    '@litertjs/core',
    '2.5.3',
    'PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==',
    {
      'index.js': 'package/dist/index.js',
      **{name: f'package/wasm/{name}' for name in _WASM},
    },
  ),
  Package(
    '@litertjs/wasm-utils',
    '2.5.3',
    '4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==',
    {'wasm-utils.js': 'package/dist/index.js'},
  ),
)
PACK = f'npm pack {" ".join(package.address for package in PACKAGES)}'


def find_packages(given: Path | None = None) -> dict[str, bytes]:
  """The files of LiteRT.js that a page needs, by name.

  Args:
    given: folder with the tarballs of PACKAGES, as `npm pack` names them. By default npm downloads
      them, once, into the user's cache.

  Raises:
    ValueError: npm is missing or fails, the cache cannot be written to, or a tarball is not there
      or is not what npm published.
  """
  folder = given or _find_cache()
  if given is None:
    for package in PACKAGES:
      if not (folder / package.tarball).exists():
        _download(package, folder)
  files = {}
  for package in PACKAGES:
    path = folder / package.tarball
    _check(package, path)
    with tarfile.open(path) as archive:
      for name, member in package.files.items():
        files[name] = archive.extractfile(member).read()
  return files


def _find_cache() -> Path:
  home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return Path(home, 'movinet-jax', 'litertjs')


def _download(package: Package, folder: Path):
  """Has npm put a tarball into the cache, whole or not at all."""
  npm = shutil.which('npm')
  if npm is None:
    raise ValueError(f'npm, which downloads LiteRT.js, is not installed: {_say_elsewhere()}')
  part = folder / f'part-{os.getpid()}'
  try:
    part.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    reason = (error.strerror or str(error)).lower()
    raise ValueError(
      f'LiteRT.js cannot be kept in {folder} ({reason}): {_say_elsewhere()}'
    ) from None
  try:
    command = [npm, 'pack', package.address, '--pack-destination', str(part)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECS, cwd=part)
    if ran.returncode:
      lines = [line for line in ran.stderr.splitlines() if 'code' in line or 'network' in line]
      why = lines[0].strip() if lines else f'exit code {ran.returncode}'
      raise ValueError(f'npm cannot download {package.address} ({why}): {_say_elsewhere()}')
    _check(package, part / package.tarball)
    (part / package.tarball).replace(folder / package.tarball)
  except subprocess.TimeoutExpired:
    raise ValueError(
      f'npm did not download {package.address} in {_SECS:.0f} s: {_say_elsewhere()}'
    ) from None
  finally:
    shutil.rmtree(part)


def _check(package: Package, path: Path):
  if not path.is_file():
    raise ValueError(f'there is no {path}: make it with `{PACK}`')
  digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
  if digest != package.sha512:
    raise ValueError(
      f'{path} is not {package.address} as npm published it: delete it, and make it anew with '
      f'`{PACK}`'
    )


def _say_elsewhere() -> str:
  return (
    f'run `{PACK}` on a machine that has npm and a network, and give the folder of the two files '
    'as --litertjs=FOLDER'
  )
