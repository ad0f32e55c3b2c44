"""What papers and releases print about named networks: accuracy, cost and latency.

    for result in find_results('movinet/a2-stream'):
      print(result.dataset, result.top1, result.source)
    for latency in find_latencies('movinet/a2-stream'):
      print(latency.device, latency.frame_ms)

Nothing here was measured by this project. A printed number belongs to a network of this package
as far as `differs` says: some papers print numbers for networks that no published code has.

The folder `families` holds the rows, a file for each paper.
"""

from collections.abc import Sequence

from movinet_jax import models
from movinet_jax.published import families
from movinet_jax.published.rows import CLASSES, Latency, Result
from movinet_jax.registry import load_members


def find_results(name: str) -> list[Result]:
  """The printed results of a named network, the one to quote first.

  Args:
    name: 'family/variant'. 'movinet/a0-stream' has the results of the released stream, and
      behind them those of the paper's stream, which is `movinet/a0` made causal.
  """
  return _find(RESULTS, name)


def find_latencies(name: str) -> list[Latency]:
  """The printed latencies of a named network, as `find_results` finds results."""
  return _find(LATENCIES, name)


def _find(rows: Sequence, name: str) -> list:
  own = [row for row in rows if row.network == name and not row.fields]
  alike = [
    row for row in rows if row.fields == {'causal': True} and f'{row.network}-stream' == name
  ]
  return own + alike


def find_cost(model) -> Result | None:
  """What is printed about the cost of a native clip of this very network, with its classes.

  A network with the classes of its family's data set has the numbers of another data set where
  none are printed for that one.
  """
  family = models.name_family(model)
  rows = [row for row in RESULTS if row.network.startswith(f'{family}/') and not row.clip]
  same = [row for row in rows if row.gmacs and row.mparams and _is_of(row, model)]
  default = model.num_classes == models.find_family(family).NUM_CLASSES
  exact = (row for row in same if CLASSES.get(row.dataset) == model.num_classes)
  return next(exact, same[0] if same and default else None)


def _is_of(row: Result, model) -> bool:
  return models.create(row.network, model.num_classes, **row.fields).spec == model.spec


def find_short_side(name: str) -> int | None:
  """Pixels that a picture's shorter side has when a published network is evaluated.

  A square of the network's own size is cut from its middle. None where no source says it.
  """
  return _SHORT_SIDES.get(name.removesuffix('-stream'))


_FAMILIES = load_members(families.__name__).values()
_SHORT_SIDES = {name: side for family in _FAMILIES for name, side in family.SHORT_SIDES.items()}
RESULTS: tuple[Result, ...] = tuple(row for family in _FAMILIES for row in family.RESULTS)
LATENCIES: tuple[Latency, ...] = tuple(row for family in _FAMILIES for row in family.LATENCIES)
