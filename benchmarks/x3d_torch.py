"""X3D in plain PyTorch, written here to be measured against (benchmarks/x3d.py).

Layers and names are those of the published code (PyTorchVideo), so that its state dict
goes through movinet_jax.convert; random weights.
"""

import torch
from torch import nn

from movinet_jax.layers import count_squeezed
from movinet_jax.models.x3d import Spec

Conv = nn.Conv3d


def make_norm(features: int) -> nn.Module:
  return nn.BatchNorm3d(features, eps=1e-5, momentum=0.1)


class Excite(nn.Module):
  """Squeeze-and-excitation; `block` is a name of the published code."""

  def __init__(self, features: int):
    super().__init__()
    hidden = count_squeezed(features)
    layers = Conv(features, hidden, 1), nn.ReLU(), Conv(hidden, features, 1)
    self.block = nn.Sequential(*layers, nn.Sigmoid())

  def forward(self, x):
    return x * self.block(x.mean((2, 3, 4), keepdim=True))


class Branch(nn.Module):
  def __init__(self, before: int, inner: int, after: int, stride: int, excite: bool):
    super().__init__()
    self.conv_a = Conv(before, inner, 1, bias=False)
    self.norm_a = make_norm(inner)
    how = {'stride': (1, stride, stride), 'padding': 1, 'groups': inner}
    self.conv_b = Conv(inner, inner, 3, bias=False, **how)
    last = Excite(inner) if excite else nn.Identity()
    self.norm_b = nn.Sequential(make_norm(inner), last)
    self.conv_c = Conv(inner, after, 1, bias=False)
    self.norm_c = make_norm(after)

  def forward(self, x):
    x = torch.relu(self.norm_a(self.conv_a(x)))
    x = nn.functional.silu(self.norm_b(self.conv_b(x)))
    return self.norm_c(self.conv_c(x))


class Block(nn.Module):
  def __init__(self, before: int, inner: int, after: int, stride: int, excite: bool):
    super().__init__()
    self.branch2 = Branch(before, inner, after, stride, excite)
    self.branch1_conv = self.branch1_norm = nn.Identity()
    if stride > 1:
      self.branch1_conv = Conv(before, after, 1, (1, stride, stride), bias=False)
    if before != after:
      self.branch1_norm = make_norm(after)

  def forward(self, x):
    return torch.relu(self.branch1_norm(self.branch1_conv(x)) + self.branch2(x))


class Stem(nn.Module):
  def __init__(self, features: int):
    super().__init__()
    self.conv = nn.Module()  # The published names of the two are the wrong way round.
    space = {'stride': (1, 2, 2), 'padding': (0, 1, 1)}
    time = {'padding': (2, 0, 0), 'groups': features}
    self.conv.conv_t = Conv(3, features, (1, 3, 3), bias=False, **space)
    self.conv.conv_xy = Conv(features, features, (5, 1, 1), bias=False, **time)
    self.norm = make_norm(features)

  def forward(self, x):
    return torch.relu(self.norm(self.conv.conv_xy(self.conv.conv_t(x))))


class Stage(nn.Module):
  def __init__(self, before: int, stage):
    super().__init__()
    self.res_blocks = nn.Sequential(
      *(
        Block(
          stage.features if j else before,
          stage.inner,
          stage.features,
          stride=1 if j else 2,
          excite=j % 2 == 0,
        )
        for j in range(stage.depth)
      )
    )

  def forward(self, x):
    return self.res_blocks(x)


class Head(nn.Module):
  def __init__(self, before: int, inner: int, hidden: int, classes: int, dropout: float):
    super().__init__()
    self.pool = nn.Module()
    self.pool.pre_conv = Conv(before, inner, 1, bias=False)
    self.pool.pre_norm = make_norm(inner)
    self.pool.post_conv = Conv(inner, hidden, 1, bias=False)
    self.dropout = nn.Dropout(dropout)
    self.proj = nn.Linear(hidden, classes)

  def forward(self, x):
    x = torch.relu(self.pool.pre_norm(self.pool.pre_conv(x)))
    x = torch.relu(self.pool.post_conv(x.mean((2, 3, 4), keepdim=True)))
    return self.proj(self.dropout(x.flatten(1)))


class Network(nn.Module):
  """The network of a spec for clips of its own size, [B, 3, T, H, W] -> [B, N]."""

  def __init__(self, spec: Spec, classes: int, dropout: float):
    super().__init__()
    before, blocks = spec.stem, [Stem(spec.stem)]
    for stage in spec.stages:
      blocks.append(Stage(before, stage))
      before = stage.features
    inner = spec.stages[-1].inner
    blocks.append(Head(before, inner, spec.hidden, classes, dropout))
    self.blocks = nn.Sequential(*blocks)

  def forward(self, x):
    return self.blocks(x)
