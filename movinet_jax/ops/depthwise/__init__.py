"""Depthwise 3D convolution, the operation that decides how fast these networks run.

Three operations are each other's derivatives: the convolution, its transpose (the gradient of the
input) and the correlation (the gradient of the kernel). Each form is a module that defines
`convolve`, `transpose` and `correlate`:

* `shifted` adds shifted products. `cpu` and `padded` arrange the sum for CPUs and TPUs. On a CPU it
  is two orders of magnitude faster than XLA's grouped convolution (`benchmarks/depthwise.py`
  measures both).
* `cuda` runs kernels of our own on NVIDIA GPUs.
* `native` is XLA's grouped convolution.

A traced program contains one primitive, whatever the form. The primitive becomes code when JAX
lowers the program for a platform.
"""

from movinet_jax.ops.depthwise.op import FEW, FORMS, depthwise_conv3d

__all__ = ('FEW', 'FORMS', 'depthwise_conv3d')
