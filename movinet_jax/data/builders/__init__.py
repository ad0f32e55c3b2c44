"""Datasets that can be made, one file each: the folder is the list of `movinet build-data`.

A builder has these names:

  SUMMARY             one line for the list of datasets
  DESCRIPTION         help text of several lines
  EXAMPLE             a command and, indented below it, what it makes
  add_arguments(parser: argparse.ArgumentParser)
  build(arguments: argparse.Namespace) -> Iterator[str]
                      makes the dataset and yields lines of its report as they are known;
                      raises a ValueError (SourceError is one) or FileExistsError that says
                      what to change

All builders are imported to print the help, so a builder imports slow packages in `build`.
"""

import importlib
import pkgutil
from types import ModuleType


def load_builders() -> dict[str, ModuleType]:
  """The builders by name, sorted."""
  names = sorted(module.name for module in pkgutil.iter_modules(__path__))
  return {name: importlib.import_module(f'{__name__}.{name}') for name in names}
