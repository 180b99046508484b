"""Versions: of modgap, and of the algorithms whose results are in the cache, in converted copies and in run folders.

The key of a stored result holds the versions of the algorithms that made it, not the version of modgap, which changes
with every commit. Whoever changes the results of an algorithm raises its version. The tests compare small results of
each algorithm with recorded ones, and fail if they differ without a new version. Scores have versions of their own,
see `modgap.ranking.score.Score`.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

ALGORITHM_VERSIONS: Mapping[str, int] = MappingProxyType(
    {
        # Turns the files of a target into samples, labels and splits.
        "reading": 4,
        # Selects samples, makes the inputs of a source from them, and runs the source.
        "inference": 2,
        # Fits a head on labeled data of a source's own modality.
        "fitted heads": 1,
        # Pools the outputs of the layers of an encoder.
        "pooled layers": 1,
        # Draws the batches of both stages of training, and updates the model.
        "training": 3,
        # Fits the baselines of a field, and chooses their features and settings.
        "baselines": 2,
    }
)


def algorithm_versions(*names: str) -> dict[str, int]:
    """Return the versions of some algorithms, for the record of what a stored result depends on.

    Raises:
        KeyError: When there is no such algorithm.
    """
    return {name: ALGORITHM_VERSIONS[name] for name in names}


UNKNOWN = "0+unknown"
"""Version of a checkout that is not installed."""


@cache
def installed_version() -> str:
    """Return the version that was installed; it comes from the tags of the repository."""
    # Importing it takes longer than importing modgap.
    from importlib import metadata

    try:
        return metadata.version("modgap")
    except metadata.PackageNotFoundError:
        return UNKNOWN
