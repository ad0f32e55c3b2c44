"""What a printed row of a table says of a network."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

KINETICS_400, KINETICS_600, KINETICS_700 = 'Kinetics-400', 'Kinetics-600', 'Kinetics-700'
MOMENTS, SSV2, CHARADES = 'Moments in Time', 'Something-Something V2', 'Charades'
CLASSES: Mapping[str, int] = MappingProxyType(
  {KINETICS_400: 400, KINETICS_600: 600, KINETICS_700: 700, MOMENTS: 339, SSV2: 174, CHARADES: 157}
)


@dataclasses.dataclass(frozen=True)
class Result:
  """One printed row of a table of results.

  Attributes:
    network: 'family/variant'.
    dataset: that it was trained and evaluated on, by its name in the papers.
    source: paper and table, or file of a release.
    top1, top5: accuracy in percent.
    mean_ap: mean average precision in percent, where videos have several labels.
    views: clips times crops whose scores are averaged; None where no source says how many.
    gmacs: billions of multiply-adds of one view, which the papers call GFLOPs.
    mparams: millions of parameters.
    params_source: where mparams are printed, if not in `source`.
    clip: frames and size of the view, where it is not the native clip of the network; the size is
      None where it is not printed.
    fields: fields of the architecture that differ from the named one's.
    differs: how the network of the paper differs from ours, if it is known to.
    note: what is odd about the printed numbers.
  """

  network: str
  dataset: str
  source: str
  _: dataclasses.KW_ONLY
  top1: float | None = None
  top5: float | None = None
  mean_ap: float | None = None
  views: int | None = 1
  gmacs: float | None = None
  mparams: float | None = None
  params_source: str = ''
  clip: tuple[int, int | None] | None = None
  fields: Mapping[str, object] = dataclasses.field(default_factory=dict)
  differs: str = ''
  note: str = ''

  @property
  def accuracy(self) -> float | None:
    """Top-1, or mean average precision where there is no top-1."""
    return self.mean_ap if self.top1 is None else self.top1

  @property
  def metric(self) -> str:
    """What `accuracy` is, as a column of a table calls it."""
    return 'mAP' if self.top1 is None else 'top-1'

  @property
  def costs_source(self) -> str:
    """Where multiply-adds and parameters are printed."""
    more = self.params_source and f'; parameters: {self.params_source}'
    return f'{self.source}{more}'


@dataclasses.dataclass(frozen=True)
class Latency:
  """A printed runtime, of a batch of one as far as the sources say.

  Attributes:
    network, source, fields, differs: as of Result.
    device: that it was measured on, by its name in the source.
    clip_ms: milliseconds for the whole clip.
    frame_ms: milliseconds for a frame of a stream, or for the clip divided by its frames.
    frames: of the clip.
  """

  network: str
  device: str
  source: str
  _: dataclasses.KW_ONLY
  clip_ms: float | None = None
  frame_ms: float | None = None
  frames: int | None = None
  fields: Mapping[str, object] = dataclasses.field(default_factory=dict)
  differs: str = ''
