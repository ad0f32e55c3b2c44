"""A streaming family: two dense layers over the mean of all frames so far."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

NATIVE_FPS, NUM_CLASSES = 10, 4


@dataclasses.dataclass(frozen=True)
class Spec:
  width: int
  frames: int = 4
  resolution: int = 16
  frame_stride: int = 1
  causal: bool = True


VARIANTS = {'one': Spec(8)}
SMALL = {'narrow': Spec(2)}


class Model(nn.Module):
  spec: Spec
  num_classes: int

  @nn.compact
  def __call__(self, x, state=None, *, train=False):
    if state is None:
      state = {'total': jnp.zeros((len(x), x.shape[-1])), 'frames': jnp.zeros(len(x))}
    total = state['total'] + x.mean((2, 3)).sum(1)
    frames = state['frames'] + x.shape[1]
    x = nn.relu(nn.Dense(self.spec.width, name='hidden')(total / frames[:, None]))
    logits = nn.Dense(self.num_classes, name='classifier')(x)
    return logits, {'total': total, 'frames': frames}
