"""Every verb with every kind of wrong input: exit code 2, one line, and nothing is touched."""

import contextlib
import ctypes
import json
import os
import pathlib

import jax
import pytest

from launch import main
from launch.config import load_config
from launch.verbs import list_verbs

# What a run of each kind leaves in its workdir; quickstart and the like find them foreign.
CONFIGS = {
  'train': 'configs/movinet/quickstart.py',
  'search': 'configs/search/quickstart.py',
  'sweep': 'configs/sweep/quickstart.py:expand',
  'compare': 'configs/compare/quickstart.py',
}
DATA = '--config.data.train.root={videos}', '--config.data.eval.root={videos}'
TRAIN = ('--config=configs/movinet/quickstart.py', *DATA)
SEARCH = ('--config=configs/search/quickstart.py', DATA[0])
SWEEP = ('--config=configs/sweep/quickstart.py:expand', '--config.data.train.name=folder', DATA[0])
FOLDER = '{{"name": "folder", "root": "{videos}", "split": "val"}}'  # which writes no videos
COMPARE = (
  '--config=configs/compare/quickstart.py',
  *(f'--config.base.data.{split}={FOLDER}' for split in ('train', 'eval')),
)
LATENCY = ('latency', *SEARCH)
EVALUATE = ('evaluate', '--checkpoint={trained}')
STREAM = ('stream', '--checkpoint={trained}', '--source={videos}/val/up/00000.mp4')
EXPORT = ('export', '--checkpoint={trained}', '--to=stablehlo')
CONVERT = ('convert', 'movinet/a0', '--weights={videos}')

# The options of each verb that take a path.
PATHS = {
  'bench': [('bench', '{}'), ('bench', 'movinet/a0', '--picture={}')],
  'build-data': [('build-data', 'motion', '--out={}')],
  'check-data': [('check-data', '{}'), ('check-data', '{videos}', '--manifest={}')],
  'compare': [('compare', *COMPARE, '--workdir={}')],
  'convert': [(*CONVERT[:2], '--weights={}', '--out=a.npz'), (*CONVERT, '--out={}')],
  'cost': [('cost', 'movinet', '--spec={}')],
  'evaluate': [('evaluate', '--checkpoint={}'), (*EVALUATE, '--out={}')],
  'export': [('export', '--checkpoint={}', EXPORT[2], '--out=a'), (*EXPORT, '--out={}')],
  'latency': [(*LATENCY, '--out={}')],
  'models': [],
  'preflight': [('preflight', '--', 'train', *TRAIN, '--workdir={}')],
  'quickstart': [('quickstart', '--workdir={}')],
  'search': [('search', *SEARCH, '--workdir={}')],
  'stream': [('stream', '--checkpoint={}', '--source=a.mp4'), (*STREAM, '--save={}')],
  'submit': [('submit', '--on=local', '--', 'train', *TRAIN, '--workdir={}')],
  'sweep': [('sweep', *SWEEP, '--workdir={}')],
  'train': [('train', *TRAIN, '--workdir={}'), ('train', *TRAIN, '--workdir=a', '--spec={}')],
}
REMOTE, EMPTY, NOBODY, SHOWN = 'gs://bucket/run', '', '~no-such-user/run', 'a\nb'

# A key or an option that is misspelt, of a wrong type, or out of its range.
OVERRIDES = {
  'bench': [('bench', 'movinet/a99'), ('bench', 'movinet/a0', '--chunk=0')],
  'build-data': [('build-data', 'motion', '--out=a', '--classes=sideways')],
  'check-data': [('check-data', '{videos}', '--workers=0')],
  'compare': [
    ('compare', *COMPARE, '--workdir=a', f'--config.{given}')
    for given in ('base.sed=1', 'plot.x=fame', 'evaluations.frames4.frames=0', 'trainings=3')
  ],
  'convert': [('convert', 'movinet/a99', '--weights={videos}', '--out=a.npz')],
  'cost': [('cost', 'movinet/a0', '--clip=many'), ('cost', 'movinet/a0', '--set', 'causal=maybe')],
  'evaluate': [(*EVALUATE, '--mode=sideways'), (*EVALUATE, '--which=worst')],
  'export': [(*EXPORT, '--out=a', given) for given in ('--batch=0', '--weights=int4', '--to=onx')],
  'latency': [(*LATENCY, '--out=a', '--config.space.dpth=2'), (*LATENCY, '--out=a', '--batch=0')],
  'models': [('models', '--family=movinets')],
  'preflight': [('preflight', '--', 'train', *TRAIN, '--config.loop.total_steps=many')],
  'quickstart': [('quickstart', '--seed=1')],
  'search': [
    ('search', *SEARCH, '--workdir=a', f'--config.{given}')
    for given in ('search.target=none', 'held=3', 'optimizer.momentum=-1', 'lop.total_steps=3')
  ],
  'stream': [(*STREAM, '--top=0'), (*STREAM, '--fps=fast')],
  'submit': [('submit', '--on=local', '--', 'train', *TRAIN, '--workdir=a', '--config.sed=1')],
  'sweep': [
    ('sweep', *SWEEP, '--workdir=a', f'--config.{given}')
    for given in ('max_attempts=0', 'held_out=2', 'recipe.loop.total_steps=none', 'fitness=9')
  ],
  'train': [
    ('train', *TRAIN, '--workdir=a', f'--config.{given}')
    for given in (
      *('loader=None', 'clip.train=none', 'loop.log_every=None', 'optimizer.clip_norm=no'),
      *('clip.train.colour=abc', 'clip.eval.clips=2.5', 'clip.train.autoaugment=3', 'seed=None'),
      *('optimizer.momentum=-1', 'init=nothing', 'clip.eval.size=0', 'train.accumulate=(1,)'),
      *('checkpoints.best_metric=top9', 'clip.train.stride_jitter=0.5', 'mesh.time=3'),
    )
  ],
}

DEVICES = {
  'bench': ('bench', 'tvn/m2'),
  'compare': ('compare', *COMPARE, '--workdir=a'),
  'evaluate': EVALUATE,
  'latency': (*LATENCY, '--out=a'),
  'preflight': ('preflight', '--', 'train', *TRAIN),
  'quickstart': ('quickstart', '--workdir=a'),
  'search': ('search', *SEARCH, '--workdir=a'),
  'stream': STREAM,
  'sweep': ('sweep', *SWEEP, '--workdir=a'),
  'train': ('train', *TRAIN, '--workdir=a'),
}
NEED_NO_DEVICE = {'build-data', 'check-data', 'convert', 'cost', 'export', 'models', 'submit'}

WRITERS = {
  'bench': ('bench', 'tvn/m2', '--out={}/found.jsonl'),
  'build-data': ('build-data', 'motion', '--out={}/new'),
  'check-data': ('check-data', '{videos}', '--split=val', '--manifest={}/check.csv'),
  'compare': ('compare', *COMPARE, '--workdir={}/run'),
  'convert': (*CONVERT, '--out={}/a.npz'),
  'evaluate': (*EVALUATE, '--out={}/evaluation'),
  'export': (*EXPORT, '--out={}/new'),
  'latency': (*LATENCY, '--out={}/times.jsonl'),
  'quickstart': ('quickstart', '--workdir={}/run'),
  'search': ('search', *SEARCH, '--workdir={}/run'),
  'stream': (*STREAM, '--save={}/out.mp4'),
  'submit': ('submit', '--on=local', '--', 'train', *TRAIN, '--workdir={}/run'),
  'sweep': ('sweep', *SWEEP, '--workdir={}/run'),
  'train': ('train', *TRAIN, '--workdir={}/run'),
}
NEED_NO_FOLDER = {'cost', 'models', 'preflight'}

# (kind of the workdir that is there, command)
FOREIGN = {
  'bench': [('search', ('bench', '{}'))],
  'build-data': [('train', ('build-data', 'motion', '--out={}'))],
  'check-data': [('train', ('check-data', '{videos}', '--split=val', '--manifest={}/config.json'))],
  'compare': [
    (kind, ('compare', *COMPARE, '--workdir={}')) for kind in ('train', 'search', 'sweep')
  ],
  'convert': [('train', (*CONVERT, '--out={}/kept.npz'))],
  'evaluate': [(kind, ('evaluate', '--checkpoint={}')) for kind in ('search', 'sweep')],
  'export': [
    *((kind, ('export', '--checkpoint={}', EXPORT[2], '--out=a')) for kind in ('search', 'sweep')),
    ('train', (*EXPORT, '--out={}')),
  ],
  'latency': [('train', (*LATENCY, '--out={}/config.json'))],
  'quickstart': [(kind, ('quickstart', '--workdir={}')) for kind in CONFIGS],
  'search': [(kind, ('search', *SEARCH, '--workdir={}')) for kind in ('train', 'sweep')],
  'stream': [(kind, (STREAM[0], '--checkpoint={}', STREAM[2])) for kind in ('search', 'sweep')],
  'submit': [
    ('sweep', ('submit', '--on=local', '--', 'train', *TRAIN, '--workdir={}')),
    ('train', ('submit', '--on=local', '--', 'search', *SEARCH, '--workdir={}')),
  ],
  'sweep': [
    *((kind, ('sweep', *SWEEP, '--workdir={}')) for kind in ('train', 'search')),
    ('train', ('sweep', *SWEEP, '--workdir={}', '--report')),
  ],
  'train': [(kind, ('train', *TRAIN, '--workdir={}')) for kind in ('search', 'sweep', 'compare')],
}


def list_cases(table):
  return [(verb, given) for verb, all_given in table.items() for given in all_given]


@pytest.fixture
def refuse(motion_videos, trained, tmp_path, monkeypatch, capfd):
  """Runs a command that must end with 2, one line and an untouched disk; returns the line."""
  place = tmp_path / 'here'
  place.mkdir()
  monkeypatch.chdir(place)

  def run(words, path=''):
    known = {'videos': motion_videos, 'trained': trained}
    words = [word.format(path, **known) for word in words]
    before = look(tmp_path), look(trained)
    capfd.readouterr()
    try:
      code = main.main(words)
    except SystemExit as stop:
      code = stop.code
    printed = capfd.readouterr().err
    assert code == 2, (words, printed)
    lines = [line for line in printed.splitlines() if not line.startswith('Note: ')]
    assert len(lines) == 1, (words, printed)
    # preflight and submit read the command in them as its own verb does.
    verbs = [word for word in words if word in list_verbs()]
    assert lines[0].startswith(tuple(f'movinet {word}' for word in verbs)), printed
    assert (look(tmp_path), look(trained)) == before, words
    return lines[0]

  return run


def look(folder: pathlib.Path) -> dict:
  """Everything below a folder, with the size and time of change of each file."""
  found = {path: path.stat() for path in folder.rglob('*')}
  return {
    path: (status.st_size, status.st_mtime_ns) if path.is_file() else None
    for path, status in found.items()
  }


def test_no_verb_is_left_out():
  verbs = set(list_verbs())
  assert verbs == set(PATHS) == set(OVERRIDES)
  assert verbs == set(DEVICES) | NEED_NO_DEVICE
  assert verbs == set(WRITERS) | NEED_NO_FOLDER == set(FOREIGN) | NEED_NO_FOLDER


@pytest.mark.parametrize('path', [REMOTE, EMPTY, NOBODY, SHOWN])
@pytest.mark.parametrize(('verb', 'words'), list_cases(PATHS))
def test_a_bad_path(verb, words, path, refuse):
  line = refuse(words, path)
  wanted = {REMOTE: 'mount', EMPTY: '', NOBODY: 'no-such-user', SHOWN: 'cannot be printed'}
  assert wanted[path] in line


@pytest.mark.parametrize(('verb', 'words'), list_cases(OVERRIDES))
def test_a_bad_override(verb, words, refuse):
  refuse(words)


@pytest.mark.parametrize('verb', DEVICES)
def test_a_missing_device(verb, refuse, monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda,cpu')  # what a sweep's own process asks
  before = jax.config.jax_platforms
  jax.config.update('jax_platforms', 'cuda,cpu')
  try:
    assert "asks for 'cuda'" in refuse(DEVICES[verb])
  finally:
    jax.config.update('jax_platforms', before)


@pytest.mark.parametrize('verb', WRITERS)
def test_a_folder_that_cannot_be_written(verb, refuse, tmp_path):
  place = tmp_path / 'locked'
  place.mkdir()
  place.chmod(0o500)
  try:
    with obeying_permissions():
      line = refuse(WRITERS[verb], place)
  finally:
    place.chmod(0o700)
  assert 'Permission denied' in line
  assert str(place) in line


@pytest.mark.parametrize(('verb', 'given'), list_cases(FOREIGN))
def test_a_workdir_of_another(verb, given, refuse, tmp_path):
  kind, words = given
  place = tmp_path / 'foreign'
  place.mkdir()
  config = load_config(CONFIGS[kind]).to_dict()
  (place / 'config.json').write_text(json.dumps(config))
  for name in ('found.json', 'report.html', 'kept.npz'):
    (place / name).write_text(f'of a {kind}')
  assert str(place) in refuse(words, place)


@contextlib.contextmanager
def obeying_permissions():
  """Within, permissions bind this thread even if it is root's; others keep what they have."""
  libc = ctypes.CDLL(None, use_errno=True)
  version, everything = 0x20080522, (ctypes.c_uint32 * 6)()
  header = (ctypes.c_uint32 * 2)(version, 0)
  if os.getuid():
    yield
    return
  assert libc.capget(header, everything) == 0
  fewer = (ctypes.c_uint32 * 6)(*everything)
  fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of those in effect
  assert libc.capset(header, fewer) == 0
  try:
    yield
  finally:
    assert libc.capset(header, everything) == 0
