"""A workdir belongs to one kind of run, which the config in it tells."""

from pathlib import Path

from movinet_jax.train.workdir import CONFIG, read_config

# A key that only configs of this kind have, and that all of them must have.
_MARKS = {'train': 'model', 'search': 'candidates', 'sweep': 'study'}


def check_owner(folder: str | Path, verb: str):
  """Checks that a workdir is of a verb's runs, or of nobody's yet.

  The files of different runs have the same names, so one would replace the other's.

  Args:
    folder: workdir, which need not exist.
    verb: 'train', 'search' or 'sweep'; '' for none that writes there itself.

  Raises:
    ValueError: it is another verb's.
    NotADirectoryError: it is a file.
  """
  place = Path(folder)
  if place.exists() and not place.is_dir():
    raise NotADirectoryError(f'--workdir={folder} is a file; wanted a folder')
  if not (place / CONFIG).exists():
    return
  config = read_config(place)
  if verb and _MARKS[verb] in config:
    return
  owners = [other for other, mark in _MARKS.items() if mark in config]
  whose = f'`movinet {owners[0]}`' if owners else 'another program'
  raise ValueError(f'{folder} is a workdir of {whose}, see its {CONFIG}: choose another --workdir')
