"""The child process that reads text of HDF5 files, whose reading may never end in a damaged file.

It imports nothing else of modgap.
"""
