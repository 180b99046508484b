"""Run as a child process, `python -m modgap.unpickling`: pickles of plain data to safetensors.

A pickle is a program for a small machine that can import names and call them. Here the machine knows a few names
only, and none of them leads to Python's or NumPy's own functions. This package imports NumPy and the standard library
alone, so that the process starts at once.
"""
