"""Outputs of sources in the cache."""

import numpy as np

from modgap.errors import InputError
from modgap.ranking.source_outputs import SourceOutputs
from modgap.storage.cache import CacheEntry, find_cached

__all__ = ["ARRAY", "KIND", "load_class_names", "load_sample_numbers", "load_source_outputs"]

KIND = "source_outputs"
"""Kind of the cache entries."""
ARRAY = "outputs"
"""Name of the array in a cache entry that holds features and logits side by side."""


def load_source_outputs(key: str) -> SourceOutputs:
    """Load the outputs of a source that `extract` has stored in the cache.

    Args:
        key: Key of the cache entry.

    Raises:
        InputError: If the entry is no longer in the cache.
    """
    outputs = find_cached(KIND, key, _decode)
    if outputs is None:
        raise _removed_entry(key)
    return outputs


def _decode(entry: CacheEntry) -> SourceOutputs:
    arrays = entry.arrays
    properties = entry.metadata["properties"]
    width = properties["width"]
    outputs = arrays[ARRAY]
    return SourceOutputs(
        features=outputs[:, :width],
        labels=np.array(arrays["labels"]),
        logits=outputs[:, width:] if properties["classes"] else None,
        values=np.array(arrays["values"]) if "values" in arrays else None,
        groups=np.array(arrays["groups"]) if "groups" in arrays else None,
        properties=properties,
    )


def load_class_names(key: str) -> tuple[list[str], list[str]]:
    """Return the names of the source's and of the target's classes. Empty lists if they have no names."""
    names = find_cached(KIND, key, lambda entry: (entry.metadata["source_classes"], entry.metadata["target_classes"]))
    return names or ([], [])


def load_sample_numbers(key: str) -> np.ndarray:
    """Return the number of each of the n samples among all samples of the target, shape (n,).

    Args:
        key: Key of the cache entry.

    Raises:
        InputError: If the entry is no longer in the cache.
    """
    numbers = find_cached(KIND, key, lambda entry: np.array(entry.arrays["rows"]))
    if numbers is None:
        raise _removed_entry(key)
    return numbers


def _removed_entry(key: str) -> InputError:
    return InputError(f"The cache entry {key[:12]}... was removed or is damaged. Run the command again to compute it.")
