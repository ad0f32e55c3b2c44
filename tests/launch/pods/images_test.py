"""The Dockerfiles, as hadolint sees them, and what they copy."""

import pathlib
import re
import subprocess
import tomllib

import pytest

from tests.launch.pods.jobs import find_program

ROOT = pathlib.Path(__file__).parents[3]
IMAGES = sorted((ROOT / 'launch' / 'pods' / 'images').glob('*.Dockerfile'))
HADOLINT = find_program('hadolint')


@pytest.mark.parametrize('path', IMAGES, ids=lambda path: path.stem)
@pytest.mark.skipif(HADOLINT is None, reason='hadolint is not installed')
def test_hadolint(path):
  done = subprocess.run([HADOLINT, path], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


@pytest.mark.skipif(HADOLINT is None, reason='hadolint is not installed')
def test_hadolint_finds_what_is_planted(tmp_path):
  bad = tmp_path / 'bad.Dockerfile'
  bad.write_text(IMAGES[0].read_text().replace(' --no-install-recommends', ''))
  assert subprocess.run([HADOLINT, bad], capture_output=True).returncode != 0


@pytest.mark.parametrize('path', IMAGES, ids=lambda path: path.stem)
def test_all_of_the_project_is_copied(path):
  text = path.read_text()
  copied = {
    word for line in re.findall(r'^COPY (.*) \S+$', text, re.MULTILINE) for word in line.split()
  }
  assert all((ROOT / word).exists() for word in copied)
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  packages = project['tool']['setuptools']['packages']['find']['include']
  assert {package.rstrip('*') for package in packages} <= copied
  assert {'pyproject.toml', 'requirements.txt', project['project']['readme']} <= copied


@pytest.mark.parametrize('path', IMAGES, ids=lambda path: path.stem)
def test_jax_comes_as_the_project_says(path):
  """The extra of pyproject.toml and the bounds of requirements.txt."""
  (extra,) = re.findall(r'"(jax\[\w+\])(.*?)"', path.read_text())
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  assert [extra[0]] in project['optional-dependencies'].values()
  assert f'jax{extra[1]}\n' in (ROOT / 'requirements.txt').read_text()


def test_there_is_one_for_each_kind_of_machine():
  assert [path.stem for path in IMAGES] == ['gpu', 'tpu']
