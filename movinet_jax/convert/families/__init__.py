"""How published files name the variables of a family; the folder is the registry.

A file `foo.py` here belongs to `movinet_jax/models/foo.py`. Only families with published
weights have one: our own files need no names but our own. Such a file defines

* `KIND`: what its published files are, 'tensorflow' or 'pytorch'.
* `find_name(key)`: the canonical name of an array of a published file, None if it is none of
  the family's weights. It removes what differs between layouts of the same weights.
* `make_names(paths)`: the canonical name of each variable path, such as
  ('params', 'stem', 'conv', 'kernel').
* `fit_array(key, array, shape)`: the array with our order of axes and this shape, None where
  that cannot be.
* `find_fields(names)`, optional: fields of the Spec that the canonical names of a file
  determine.
* `make_keys(names, spec)`: the key that a published file of this architecture has for each
  variable path, of the canonical names by path. Raises a ConversionError where the published
  code has no such network.
* `write_array(key, array)`: our array with the axes of a published file: `fit_array` undoes it.
"""

import types

from movinet_jax.registry import list_members, load_member


def list_names() -> list[str]:
  """Families whose published names are known."""
  return list_members(__name__)


def find(family: str) -> types.ModuleType | None:
  """The file of a family, None where it has no published weights."""
  if family not in list_names():
    return None
  return load_member(__name__, family, 'family')
