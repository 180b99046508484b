"""Quality of a map of features: neighbors and classes in the map, compared with those in the features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion.arrays import center_features, validate_count
from modgap.errors import InputError
from modgap.probes.input_checks import class_numbers
from modgap.probes.single_thread import single_blas_thread

__all__ = ["NEIGHBORS", "MapQuality", "map_quality"]

NEIGHBORS = 10
MIN_SAMPLES = 5


@dataclass(frozen=True)
class MapQuality:
    """Agreement of a map with the features that it shows; a map alone can mislead.

    Attributes:
        agreement_map: Share of a sample's nearest neighbors in the map that have its class, mean over samples, in
            [0, 1]; higher is better.
        agreement_features: The same share for the nearest neighbors in the features.
        agreement_chance: Expected share for randomly drawn neighbors.
        trustworthiness: Trustworthiness of Venna and Kaski (2001), in [0, 1]: 1 if all neighbors in the map are
            neighbors in the features, about 0.5 for a random map.
        silhouette_map: Mean silhouette (Rousseeuw 1987) of the classes in the map, in [-1, 1]; higher means better
            separated. None if it is not defined: one class, or as many classes as samples.
        silhouette_features: Mean silhouette of the classes in the features.
        neighbors: Number of nearest neighbors.
        samples: Number of samples.
    """

    agreement_map: float
    agreement_features: float
    agreement_chance: float
    trustworthiness: float
    silhouette_map: float | None
    silhouette_features: float | None
    neighbors: int
    samples: int


def map_quality(
    coordinates: ArrayLike, features: ArrayLike, labels: ArrayLike, *, neighbors: int = NEIGHBORS
) -> MapQuality:
    """Compute the quality of a map; trustworthiness and silhouettes are scikit-learn's.

    It needs memory for about four n x n matrices, 3 GB for 10,000 samples. Everything runs in one thread, so that the
    values do not depend on the number of threads.

    Args:
        coordinates: Position of each sample in the map, shape (n, 2).
        features: Features of the samples, shape (n, D).
        labels: Integer labels, shape (n,).
        neighbors: Number of nearest neighbors; reduced to less than n / 2 if it is larger.

    Raises:
        InputError: When there are fewer than five samples, the numbers of samples differ, or an array is not finite or
            the same for all samples.

    Example:
        >>> coordinates = np.array([[0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9.5]])
        >>> quality = map_quality(coordinates, coordinates, [0, 0, 0, 1, 1, 1], neighbors=2)
        >>> quality.agreement_map, quality.agreement_chance, quality.trustworthiness
        (1.0, 0.4, 1.0)
    """
    from sklearn.manifold import trustworthiness

    positions = center_features(coordinates, "the map", MIN_SAMPLES)
    centered = center_features(features, "the encoder", MIN_SAMPLES)
    if len(positions) != len(centered):
        raise InputError(f"The map has {len(positions)} samples, but the features have {len(centered)}.")
    classes = class_numbers(labels, len(centered))
    count = min(validate_count("neighbors", neighbors, 1), (len(centered) - 1) // 2)
    class_sizes = np.bincount(classes)
    samples = len(centered)
    with single_blas_thread():
        return MapQuality(
            agreement_map=_class_agreement(positions, classes, count),
            agreement_features=_class_agreement(centered, classes, count),
            agreement_chance=float((class_sizes * (class_sizes - 1)).sum() / (samples * (samples - 1))),
            trustworthiness=float(trustworthiness(centered, positions, n_neighbors=count)),
            silhouette_map=_silhouette(positions, classes),
            silhouette_features=_silhouette(centered, classes),
            neighbors=count,
            samples=samples,
        )


def _class_agreement(points: np.ndarray, classes: np.ndarray, neighbors: int) -> float:
    """Return the share of nearest neighbors that have the class of the sample, mean over samples."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=neighbors, algorithm="brute").fit(points)
    nearest = search.kneighbors(return_distance=False)
    return float((classes[nearest] == classes[:, None]).mean())


def _silhouette(points: np.ndarray, classes: np.ndarray) -> float | None:
    """Return the mean silhouette of the classes; None if it is not defined."""
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(classes)) < len(classes):
        return None
    return float(silhouette_score(points, classes))
