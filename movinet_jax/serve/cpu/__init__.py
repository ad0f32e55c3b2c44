"""A stream's next frame as a program arranged for a CPU.

A frame's operations are so short that passes over its pixels take most of the time. So the network
becomes the graph that `movinet_jax.export` writes files from, in which norms are part of the
convolutions; `buffers` and `rules` take more passes away, and `kernels` computes what is left.
"""

from movinet_jax.serve.cpu.step import FrameStep

__all__ = ['FrameStep']
