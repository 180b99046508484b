"""Numba kernels of the discrepancy, functions from arrays to arrays."""
