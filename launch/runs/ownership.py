"""A workdir belongs to one kind of run, which the config in it tells."""

from pathlib import Path

from movinet_jax.train.checkpoint import count_steps
from movinet_jax.train.workdir import CHECKPOINTS, CONFIG, METRICS, read_config

# A key that only configs of this kind have, and that all of them must have.
_MARKS = {'train': 'model', 'search': 'candidates', 'sweep': 'study', 'compare': 'trainings'}
# What runs write after their config.
_TRACES = ('trials', 'evaluations', 'space.json', 'found.json', METRICS)


def check_owner(folder: str | Path, verb: str):
  """Checks that a workdir is of a verb's runs, or of nobody's yet.

  The files of different runs have the same names, so one would replace the other's.

  Args:
    folder: workdir, which need not exist.
    verb: 'train', 'search', 'sweep' or 'compare'; '' for none that writes there itself.

  Raises:
    ValueError: it is another verb's.
    NotADirectoryError: it is a file.
  """
  place = Path(folder)
  if place.exists() and not place.is_dir():
    raise NotADirectoryError(f'--workdir={folder} is a file; wanted a folder')
  if not (place / CONFIG).exists():
    _check_unused(place)
    return
  config = read_config(place)
  if verb and _MARKS[verb] in config:
    return
  owners = [other for other, mark in _MARKS.items() if mark in config]
  whose = f'`movinet {owners[0]}`' if owners else 'another program'
  wanted = f'wanted one of `movinet {verb}`' if verb else 'choose another --workdir'
  raise ValueError(f'{folder} is a workdir of {whose}, see its {CONFIG}: {wanted}')


def _check_unused(place: Path):
  """Raises a ValueError for what a run has left, without the config that tells whose it is."""
  left = [name for name in _TRACES if (place / name).exists()]
  if count_steps(place / CHECKPOINTS):
    left.append(CHECKPOINTS)
  if left:
    raise ValueError(
      f'{place} holds a run ({left[0]}), but its {CONFIG} is gone: put it back (each checkpoint '
      "keeps it as 'config' of meta/metadata), or choose another --workdir"
    )
