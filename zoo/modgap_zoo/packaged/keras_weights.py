"""Weights in an HDF5 file of Keras, read without Keras: its arrays alone, never its description of layers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modgap.errors import InputError
from modgap.storage.hdf5_arrays import map_hdf5

GROUP = "model_weights/"
"""Beginning of the paths of all arrays: the group, a layer, that layer again, and the name of a parameter."""
MOST_BYTES = 1 << 28
"""Largest file that is read. That of inaSpeechSegmenter has 3 MB."""
NORMALIZATION = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
"""Names of the parameters of a batch normalization in Keras, and in torch."""


def read_keras_weights(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a model by layer and parameter, such as `dense_1/kernel`.

    Args:
        path: File that the method `save` of a model of Keras wrote, up to its second version.

    Raises:
        InputError: When the file is missing, too large or damaged, has other arrays than weights of 32 bits, or
            describes more values than it has.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if size > MOST_BYTES:
        raise InputError(f"{path} has {size:,} bytes. A file of Keras of at most {MOST_BYTES:,} bytes can be read.")
    arrays = map_hdf5(path)
    for name, array in arrays.items():
        is_weight = name.startswith(GROUP) and isinstance(array, np.ndarray) and array.dtype == np.dtype("<f4")
        if not is_weight or name.count("/") < 2:
            raise InputError(f"{path} is not a file of weights of Keras: it has {name[:200]!r}, which is no weight.")
    total = sum(array.nbytes for array in arrays.values())
    if total > size:
        raise InputError(
            f"{path} describes weights of {total:,} bytes, and the file has {size:,}. It is damaged, or it was not "
            "written by Keras."
        )
    parts = {name: name.split("/") for name in arrays}
    return {
        f"{parts[name][1]}/{parts[name][-1].partition(':')[0]}": torch.from_numpy(np.array(array))
        for name, array in arrays.items()
    }


def normalization_weights(weights: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """Return the tensors of a batch normalization under the name of this module, from those of Keras by their name."""
    renamed = {f"{ours}.{name}": weights[f"{theirs}/{parameter}"] for parameter, name in NORMALIZATION.items()}
    return {**renamed, f"{ours}.num_batches_tracked": torch.tensor(0)}


def linear_weights(weights: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """Return the tensors of a linear layer under the name of this module, from those of Keras by their name."""
    return {f"{ours}.weight": weights[f"{theirs}/kernel"].T.contiguous(), f"{ours}.bias": weights[f"{theirs}/bias"]}
