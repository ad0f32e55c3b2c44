"""Describes one depthwise convolution without its arrays."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plan:
  """The shapes, padding and types of a convolution of x with a kernel, which gives y.

  Attributes:
    x: frames, height, width and channels of the input.
    taps: frames, height and width of the kernel.
    stride: of height and width. Time has stride 1.
    pads: how many zeros come before and after the frames, the rows and the columns.
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
    """The stride of time, height and width."""
    return (1, *self.stride)

  @property
  def y(self) -> tuple[int, int, int, int]:
    """Frames, height, width and channels of the output."""
    axes = zip(self.x, self.pads, self.taps, self.steps, strict=False)
    return (*((n + sum(pad) - k) // step + 1 for n, pad, k, step in axes), self.x[3])

  @property
  def kernel(self) -> tuple[int, int, int, int]:
    """The shape of the kernel, [KT, KH, KW, C]."""
    return (*self.taps, self.x[3])
