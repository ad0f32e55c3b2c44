"""Sections of a report, one file each. The folder is the registry.

A section has `make(findings)`, which returns its blocks: tuples of the name of a macro in
templates/blocks.html and its arguments. Its title is the name of the file.
"""

from collections.abc import Sequence

from movinet_jax.registry import load_member


def make_sections(names: Sequence[str], findings) -> dict[str, list[tuple]]:
  """Makes the sections of a page: title -> blocks. Raises a ValueError for an unknown name."""
  modules = {name: load_member(__name__, name, 'section') for name in names}
  return {name.capitalize(): module.make(findings) for name, module in modules.items()}
