"""The child process that reads text of HDF5 files, whose reading may never end in a damaged file.

It prints the text in a dataset as JSON, a flat list: `python -m modgap.storage.hdf5_text FILE DATASET`. It imports
nothing else of modgap.
"""

import json
import sys

import h5py
import numpy as np


def main() -> None:
    """Read the dataset that the arguments name, and print its texts."""
    path, name = sys.argv[1:]
    try:
        with h5py.File(path, "r") as file:
            texts = np.asarray(file[name].asstr()[...], dtype=object).ravel().tolist()
    except (OSError, KeyError, RuntimeError, ValueError, MemoryError) as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
    json.dump(texts, sys.stdout)


if __name__ == "__main__":
    main()
