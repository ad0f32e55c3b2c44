"""Depthwise 3D convolution in PyTorch, for depthwise.py and performance.py, which start this.

Both layouts, with cudnn.benchmark. Padding is the same on both sides, which conv3d does
itself: with a stride, ours may begin one pixel later, and PyTorch is spared a padded copy.
"""

import json
import math
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import depthwise
import torch
from tables import format_number
from timing import is_out_of_memory
from turns import end_with_parent, tell, wait_for_turn

from movinet_jax.timing import queue_in_turns

LAYOUTS = {'ncdhw': torch.contiguous_format, 'channels_last_3d': torch.channels_last_3d}
_ROTATED_BYTES, _MOST_SETS = 256e6, 16  # as in depthwise.py


def synchronise(_=None):
  if torch.cuda.is_available():
    torch.cuda.synchronize()


class Layer:
  """A convolution and random inputs of it, in one layout."""

  def __init__(self, x, kernel, stride: int, dtype: str, layout: str):
    b, t, h, w, c = x
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    kind = {'device': device, 'dtype': getattr(torch, dtype)}
    self.how = (1, stride, stride), tuple(k // 2 for k in kernel), (1, 1, 1)
    y = b, c, t, -(-h // stride), -(-w // stride)
    size = (math.prod(x) + math.prod(y)) * torch.finfo(kind['dtype']).bits / 8
    count = min(_MOST_SETS, math.ceil(_ROTATED_BYTES / size)) if device == 'cuda' else 1

    def draw(shape):
      return torch.randn(shape, **kind).contiguous(memory_format=LAYOUTS[layout])

    self.sets = [(draw((b, c, t, h, w)), draw(y)) for _ in range(count)]
    self.kernel = torch.randn(c, 1, *kernel, **kind)

  def make_calls(self) -> dict:
    """By kind, what to call with the number of the call."""
    return {
      'forward': self._run,
      'input_gradient': lambda n: self._transpose(n, (True, False, False)),
      'kernel_gradient': lambda n: self._transpose(n, (False, True, False)),
      'all': self._learn,
    }

  def _convolve(self, x, kernel):
    return torch.nn.functional.conv3d(x, kernel, None, *self.how, groups=x.shape[1])

  def _run(self, n):
    with torch.no_grad():
      return self._convolve(self.sets[n % len(self.sets)][0], self.kernel)

  def _transpose(self, n, wanted):
    x, g = self.sets[n % len(self.sets)]
    how = *self.how, False, (0, 0, 0), x.shape[1], wanted
    return torch.ops.aten.convolution_backward(g, x, self.kernel, None, *how)

  def _learn(self, n):
    x, g = self.sets[n % len(self.sets)]
    x, kernel = x.detach().requires_grad_(), self.kernel.detach().requires_grad_()
    y = self._convolve(x, kernel)
    return y, *torch.autograd.grad(y, (x, kernel), g)


def measure(*, shapes, dtype: str, kinds, quick: bool):
  """Yields a row for each shape, layout and kind."""
  pace = {'rounds': 3, 'queue_secs': 1e-3} if quick else {'rounds': 3}
  for _, x, kernel, stride, _ in shapes:
    for layout in LAYOUTS:
      about = {'benchmark': 'depthwise in PyTorch', 'x': list(x)}
      about |= {'kernel': 'x'.join(map(str, kernel)), 'stride': stride, 'dtype': dtype}
      about |= {'layout': layout}
      try:
        calls = Layer(x, kernel, stride, dtype, layout).make_calls()
        for kind in kinds:
          ms = queue_in_turns({kind: calls[kind]}, wait=synchronise, **pace)[kind]
          yield {**about, 'kind': kind, 'ms': format_number(ms), 'torch': torch.__version__}
      except RuntimeError as error:  # PyTorch's, of a layout or type that it cannot do
        short = 'out of memory' if is_out_of_memory(error) else str(error).splitlines()[0][:200]
        yield {**about, 'failed': short}
      calls = None  # and with them the inputs


def main():
  end_with_parent()
  torch.backends.cudnn.benchmark = True
  if '--wait' in sys.argv:
    synchronise()
    wait_for_turn()
  order = json.loads(sys.argv[1])
  backend = 'gpu' if torch.cuda.is_available() else 'cpu'
  chosen = depthwise.find_defaults(order['quick'], backend) | order
  del chosen['forms']  # which are JAX's
  for row in measure(**chosen):
    tell('row', row)


if __name__ == '__main__':
  main()
