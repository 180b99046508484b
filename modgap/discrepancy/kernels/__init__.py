"""Numba kernels of the discrepancy: arrays in, arrays out."""
