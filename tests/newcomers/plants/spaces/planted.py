"""Networks of the planted family, of four widths."""

import dataclasses

from movinet_jax.models import planted
from nas.space import OneOf, Space


@dataclasses.dataclass(frozen=True)
class PlantedSpace:
  widths: tuple[int, ...]

  family = 'planted'
  supernet, causal = 'planted', True

  @property
  def space(self) -> Space:
    return Space({'width': OneOf(self.widths)})

  def decode(self, choices):
    return planted.Spec(**self.space.decode(choices))

  def describe_network(self, spec) -> list[str]:
    return [f'width {spec.width}']


def make_space(widths: tuple[int, ...] = (2, 4, 8, 16)) -> PlantedSpace:
  return PlantedSpace(tuple(widths))
