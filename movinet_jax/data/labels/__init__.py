"""Class names of public data sets. The folder is the registry: each text file is a list.

A file holds one name a line, and its first line is class 0. Names are spelled as in the official
annotation files.

* `kinetics400`, `kinetics600`, `kinetics700`: sorted names of the official CSV files. The order
  of 400 is that of PyTorchVideo's `kinetics_classnames.json` and of torchvision's weights, that of
  600 is MoViNet's `kinetics_600_labels.txt`, and that of 700 is MMAction2's `label_map_k700.txt`.
  The small letter of 600's "passing american football (not in game)" is that file's.
* `moments`: the 339 classes of Moments in Time's first release, which the papers use, numbered as
  in its `moments_categories.txt` and in `category_momentsv1.txt` of the authors' weights. The
  second release has 305 of them and is not here.
* `ssv2`: the 174 templates of Something-Something V2 without brackets, numbered as in its
  `labels.json`, which is sorted.
* `charades`: the 157 classes of `Charades_v1_classes.txt`, c000 to c156.
"""

import functools
from importlib import resources

from movinet_jax.data.spelling import spell_label
from movinet_jax.names import check_name

_SUFFIX = '.txt'

# Lists of data sets whose videos have several labels.
MULTI_LABEL = frozenset({'charades'})

# Family and number of classes of the released weights whose order of classes is documented: the
# MoViNets of TensorFlow's model garden, and X3D of PyTorchVideo and SlowFast.
_RELEASED = {
  ('movinet', 600): 'kinetics600',
  ('ensemble', 600): 'kinetics600',
  ('x3d', 400): 'kinetics400',
}


def list_names() -> list[str]:
  """The names that `read_list` knows, sorted."""
  files = (path.name for path in resources.files(__name__).iterdir())
  return sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX))


@functools.cache
def read_list(name: str) -> tuple[str, ...]:
  """The class names of a data set, in the order of their numbers.

  Raises:
    ValueError: there is no such list; names the nearest.
  """
  check_name(name, list_names(), 'list of class names')
  text = (resources.files(__name__) / f'{name}{_SUFFIX}').read_text(encoding='utf-8')
  return tuple(map(spell_label, text.splitlines()))


def find_list(family: str, num_classes: int) -> str | None:
  """The list of the classes that a family's released weights have.

  None where there are no released weights of so many classes, or nobody says how they number
  them. The number of classes alone does not tell: it may be a part of a data set.
  """
  return _RELEASED.get((family, num_classes))
