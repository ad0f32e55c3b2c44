"""The classifier of a trained network for other classes: what it keeps goes by name."""

import jax
import numpy as np
import pytest

from movinet_jax import convert, models
from movinet_jax.convert import Relabeling
from movinet_jax.models import tvn, x3d

CLIP = {'frames': 2, 'resolution': 16, 'frame_stride': 1}
SPECS = {
  'x3d': x3d.Spec(stem=8, stages=(x3d.Stage(8, 8, 1),), hidden=8, **CLIP),
  'tvn': tvn.Spec((tvn.Block(8, 1, 1, tvn.Op('conv', 3, 2), tvn.Op('max', 2, 2)),), **CLIP),
}
OLD = ('a', 'b', 'c')


@pytest.fixture(scope='module', params=SPECS)
def family(request):
  return request.param


def make(family, classes, seed):
  model = models.create(family, len(classes), spec=SPECS[family])
  return model, models.init(model, jax.random.key(seed), (1, 1, 32, 32, 3))


def fit(family, new):
  """(what the trained network's arrays became, the trained, those drawn for the new one)."""
  _, old = make(family, OLD, 1)
  model, drawn = make(family, new, 2)
  relabeling = Relabeling(OLD, new)
  found, report = convert.fit(old, model, seed=2, relabeling=relabeling)
  for tree in (found, old):
    others = {k: v for k, v in tree['params'].items() if k != 'classifier'}
    tree['others'] = others
  jax.tree.map(np.testing.assert_array_equal, found['others'], old['others'])
  heads = [jax.tree.leaves(tree['params']['classifier']) for tree in (found, old, drawn)]
  return heads, report, relabeling


@pytest.mark.parametrize(
  ('new', 'said'),
  [
    (('b', 'c', 'a'), 'put in order: its 3 classes have other numbers'),
    (
      ('c', 'a'),
      "keeps the 2 classes of this data that it knows by name and drops 1 class .* ('b')",
    ),
    (
      ('b', 'x', 'a'),
      "keeps the 2 classes .* name, drops 1 class .* ('c') and draws 1 class anew ('x')",
    ),
    (
      ('x', 'y', 'b', 'z', 'w'),
      "keeps the 1 class .* drops 2 .* ('a', 'c') and draws 4 classes anew ('x', 'y', 'z', …)",
    ),
    (('x', 'y', 'z'), "drawn anew: it is of other classes ('a', 'b', 'c') than this data ('x'"),
    (('x', 'y'), 'drawn anew'),
  ],
)
def test_rows_of_classes_go_by_name(family, new, said):
  (found, old, drawn), report, relabeling = fit(family, new)
  for have, was, fresh in zip(found, old, drawn, strict=True):
    for number, name in enumerate(new):
      want = was[..., OLD.index(name)] if name in OLD else fresh[..., number]
      np.testing.assert_array_equal(have[..., number], want, err_msg=name)
  assert bool(report.missing) == (not set(new) & set(OLD))
  for words in said.split(' .* '):
    assert words in relabeling.describe()


def test_the_same_classes_stay():
  assert not Relabeling(OLD, OLD)
