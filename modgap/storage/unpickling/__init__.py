"""Convert pickles of plain data to safetensors, as a child process (`python -m modgap.storage.unpickling`).

A pickle is a program for a small machine that can import names and call them. This machine has only a few names,
and none of them leads to a function of Python or NumPy. The package imports NumPy and the standard library
only, so that the process starts quickly.
"""
