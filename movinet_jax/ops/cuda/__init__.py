"""Kernels for NVIDIA GPUs, in CUDA C++."""
