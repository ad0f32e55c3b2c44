"""What the verbs' command lines have in common."""

import argparse
import math
import re


def make_parser(verb: str, doc: str) -> argparse.ArgumentParser:
  """A parser whose --help shows a verb's documentation as it is written."""
  return _Parser(
    f'movinet {verb}',
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )


class _Parser(argparse.ArgumentParser):
  def error(self, message: str):
    # It quotes the words that it does not know, such as a misspelt --storage.
    super().error(re.sub(r'(://[^\s/:@]*):\S*@', r'\1:***@', message))


def at_least_1(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number, 1 or more')
  return int(text)


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
