"""A stream's next frame as a program arranged for one kind of device.

A frame's operations are so short that what lies between them takes most of the time: passes over
the pixels on a CPU, the start of kernels on a GPU. So the network becomes the graph that
`movinet_jax.export` writes files from, in which norms are part of the convolutions. `buffers` and
`rules` take more away; `cpu` and `gpu` compute what is left.
"""

from movinet_jax.serve.frame.step import FrameStep

__all__ = ['FrameStep']
