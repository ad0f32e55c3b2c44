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

from types import ModuleType

from movinet_jax.registry import load_members


def load_builders() -> dict[str, ModuleType]:
  """The builders by name, sorted."""
  return load_members(__name__)
