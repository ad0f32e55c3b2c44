"""Layers of images, run along time."""

import flax.linen as nn


class OverTime(nn.Module):
  """Runs a layer of images along time: frames are its rows, all pixels its columns.

  Its kernel or window is (KT, 1), and its stride (ST, 1), so a time of T frames becomes
  ceil(T / ST). It sees later frames too: nothing here can stream.
  """

  layer: nn.Module
  causal = False

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    b, t, h, w, c = x.shape
    y, _ = self.layer(x.reshape(b, 1, t, h * w, c), train=train)
    return y.reshape(b, -1, h, w, y.shape[-1]), {}
