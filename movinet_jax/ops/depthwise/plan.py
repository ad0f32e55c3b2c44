"""What one depthwise convolution is, apart from its arrays."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plan:
  """Shapes and types of a convolution y of x by a kernel [KT, KH, KW, C].

  Attributes:
    x: frames, height, width and channels of its input.
    taps: frames, height and width of the kernel.
    stride: of height and width; time has none.
    pads: zeros before and behind: of frames, rows and columns.
    dtype: of x and y.
    kernel_dtype: of the kernel.
  """

  x: tuple[int, int, int, int]
  taps: tuple[int, int, int]
  stride: tuple[int, int]
  pads: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
  dtype: str
  kernel_dtype: str

  @property
  def steps(self) -> tuple[int, int, int]:
    return (1, *self.stride)

  @property
  def y(self) -> tuple[int, int, int, int]:
    """Frames, height, width and channels of the output."""
    axes = zip(self.x, self.pads, self.taps, self.steps, strict=False)
    return (*((n + sum(pad) - k) // step + 1 for n, pad, k, step in axes), self.x[3])

  @property
  def kernel(self) -> tuple[int, int, int, int]:
    return (*self.taps, self.x[3])
