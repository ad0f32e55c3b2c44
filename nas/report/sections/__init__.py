"""Sections of a report, one file each. The folder is the registry.

A section has `make(findings)`, which returns its blocks: tuples of the name of a macro in
templates/blocks.html and its arguments. Its title is the name of the file.
"""

import importlib
import pkgutil
from collections.abc import Sequence

from movinet_jax.names import check_name


def make_sections(names: Sequence[str], findings) -> dict[str, list[tuple]]:
  """Makes the sections of a page: title -> blocks. Raises a ValueError for an unknown name."""
  for name in names:
    check_name(name, [module.name for module in pkgutil.iter_modules(__path__)], 'section')
  modules = {name: importlib.import_module(f'{__name__}.{name}') for name in names}
  return {name.capitalize(): module.make(findings) for name, module in modules.items()}
