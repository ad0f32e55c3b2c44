"""How many zeros go before and after an axis."""

from movinet_jax.names import find


def same_padding(size: int, kernel: int, stride: int = 1) -> tuple[int, int]:
  """Zeros (before, after) for an output of ceil(size / stride), TensorFlow's 'same'.

  The odd zero goes behind, so strided layers see even and odd sizes differently:
  kernel 3, stride 2 pads an even size by (0, 1) and an odd one by (1, 1).
  """
  outputs = -(-size // stride)
  total = max((outputs - 1) * stride + kernel - size, 0)
  return total // 2, total - total // 2


def centred_padding(size: int, kernel: int, stride: int = 1) -> tuple[int, int]:
  """Zeros (before, after) that centre the first window on the first value.

  PyTorch's `padding=kernel // 2`, with ceil(size / stride) outputs as 'same' has for odd
  kernels; zeros behind that no window reads are left out.
  """
  before = kernel // 2
  needed = (-(-size // stride) - 1) * stride + kernel - size
  return before, max(needed - before, 0)


PADDINGS = {'same': same_padding, 'centred': centred_padding}


def space_padding(mode: str, size: int, kernel: int, stride: int) -> tuple[int, int]:
  """Zeros before and after rows or columns: `same`, TensorFlow's, or `centred`, PyTorch's.

  Raises:
    ValueError: `mode` is neither.
  """
  return find(PADDINGS, mode, 'padding')(size, kernel, stride)


def time_padding(kernel: int, mode: str) -> tuple[int, int]:
  """Zero frames (before, after) of a stride-1 convolution in time.

  `causal` sees no later frame (MoViNet supplement C.2, equation 2), `same` is
  centred, and `valid` adds nothing: a stream buffer supplied the earlier frames.

  Raises:
    ValueError: `mode` is none of these.
  """
  match mode:
    case 'causal':
      return kernel - 1, 0
    case 'same':
      return (kernel - 1) // 2, kernel // 2
    case 'valid':
      return 0, 0
  raise ValueError(
    f"time padding is 'causal', 'same' or 'valid', got {mode!r}: use 'causal' for "
    "streams, 'same' for whole clips, 'valid' when the frames before are already there"
  )
