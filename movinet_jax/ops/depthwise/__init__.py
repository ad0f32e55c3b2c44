"""Depthwise 3D convolution, the operation that decides how fast these networks run.

Three operations that are each other's derivatives: the convolution, its transpose (the input's
gradient) and the correlation (the kernel's). Each form, a module of this folder, has all three:

* `shifted`: XLA's grouped convolution is two orders of magnitude slower on a CPU than the same
  arithmetic written as a sum of shifted products (`benchmarks/depthwise.py` measures both);
  `cpu` is that sum as it is fast there;
* `cuda`: kernels for NVIDIA GPUs;
* `native`: XLA's grouped convolution.

A program holds one operation, whatever the form: it becomes code when it is lowered for a
platform.
"""

from movinet_jax.ops.depthwise.op import FEW, FORMS, depthwise_conv3d

__all__ = ('FEW', 'FORMS', 'depthwise_conv3d')
