"""What the verbs' command lines have in common."""

import argparse
import math
import re
import sys

from launch.errors import ExitCode
from movinet_jax.paths import find_local


def make_parser(verb: str, doc: str) -> argparse.ArgumentParser:
  """A parser whose --help shows a verb's documentation as it is written.

  It has one more type of arguments: 'path', a path of this machine.

  Args:
    doc: None under `python -OO`, which keeps no documentation.
  """
  return _Parser(
    f'movinet {verb}',
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )


def add_trained(parser: argparse.ArgumentParser, *, exported: bool = False):
  """Adds what names a trained network: the arguments of `launch.runs.trained.load_given`.

  Args:
    exported: whether a file of `movinet export` serves as well.
  """
  place, add = parser.add_mutually_exclusive_group(required=True), parser.add_argument
  if exported:
    place.add_argument(
      '--model', type='path', metavar='FILE', help='file of `movinet export`: mine/model.tflite'
    )
    add('--threads', type=at_least_1, help='of the runtime of --model; default: its own choice')
  place.add_argument(
    '--checkpoint',
    type='path',
    help='workdir of a training or of an ensemble, .npz of `movinet convert`, JSON file of an '
    'ensemble, or published checkpoint: TensorFlow prefix, PyTorch state dict',
  )
  add('--which', default='latest', help='of a workdir: latest, best or a step')
  add('--network', default='', help='of a published checkpoint: movinet/a2-stream, or found.json')
  add(
    '--labels',
    type='path',
    help='file with a class name a line, or a list such as kinetics600; default: its own',
  )
  add(
    '--multi-label',
    action='store_true',
    help='of a published checkpoint: its classes have probabilities of their own, as of Charades',
  )


# An address of a stream may hold a password anywhere.
_STREAM = re.compile(r'\b(?:rtsps?|rtmps?|https?|srt|udp)://\S+', re.IGNORECASE)


def _hide_secrets(found: re.Match) -> str:
  from movinet_jax.data.address import hide_secrets  # here, because FFmpeg takes long to load

  return hide_secrets(found[0])


class _Parser(argparse.ArgumentParser):
  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    self.register('type', 'path', _parse_path)

  def error(self, message: str):
    """Says what is wrong in one line; argparse would print the usage of all options before."""
    # It quotes the words that it does not know, such as a misspelt --storage.
    message = re.sub(r'(://[^\s/:@]*):\S*@', r'\1:***@', message)
    message = _STREAM.sub(_hide_secrets, message)
    print(f'{self.prog}: {message} (see {self.prog} --help)', file=sys.stderr)
    sys.exit(ExitCode.MISUSE)


def _parse_path(text: str) -> str:
  if not text.strip():
    raise argparse.ArgumentTypeError('the path is empty: give one, or . for this folder')
  try:
    return find_local(text)
  except ValueError as error:  # whose message argparse would not show
    raise argparse.ArgumentTypeError(str(error)) from error


def at_least_1(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number, 1 or more')
  return int(text)


def clip(text: str) -> tuple[int, int, int]:
  """FRAMESxSIZE or FRAMESxHEIGHTxWIDTH as (frames, height, width)."""
  try:
    frames, height, *width = map(int, text.split('x'))
    (width,) = width or (height,)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f'{text!r} is not FRAMESxSIZE, such as 50x172, or FRAMESxHEIGHTxWIDTH'
    ) from None
  if min(frames, height, width) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} has a size below 1')
  return frames, height, width


def counts(text: str) -> tuple[int, ...]:
  """Whole numbers, 1 or more, with commas between them; each once."""
  return tuple(dict.fromkeys(map(at_least_1, text.split(','))))


def pair(text: str) -> tuple[str, str]:
  key, equals, value = text.partition('=')
  if not equals:
    raise argparse.ArgumentTypeError(f'{text!r} is not KEY=VALUE')
  return key, value


def positive(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 < value < math.inf:
    raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
  return value
