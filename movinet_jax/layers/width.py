"""Numbers of channels."""


def round_to_8(value: float) -> int:
  """The nearest multiple of 8, halves up, at least 8, never below 90 % of the value.

  MobileNet's `make_divisible`, by which MoViNet rounds the widths of squeeze-excitation,
  X3D all its widths, and EfficientNet those of scaled networks.
  """
  rounded = max(8, int(value + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * value else rounded
