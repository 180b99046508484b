"""How far a map of features can be trusted: neighbors and classes in the map beside those in the features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from modgap.distortion.arrays import blockwise, centered_features, checked_count, squared_distances
from modgap.distortion.input_checks import class_numbers
from modgap.errors import InputError

__all__ = ["NEIGHBORS", "MapQuality", "map_quality"]

NEIGHBORS, LEAST_SAMPLES = 10, 5
SAME = 1e-12
"""Squared distances that differ by less, as a share of the largest norm, are ties: rounding would order them."""


@dataclass(frozen=True)
class MapQuality:
    """What of a map is in the features: a map alone misleads.

    Attributes:
        agreement_map: Share of a sample's nearest neighbors in the map that are of its class, mean over samples,
            in [0, 1]; higher is better.
        agreement_features: The same in the features.
        agreement_chance: What it would be if neighbors were drawn at random.
        trustworthiness: Venna and Kaski's (2001), in [0, 1]: 1 when all neighbors in the map are neighbors in the
            features; 0.5 or so for a random map.
        silhouette_map: Mean silhouette (Rousseeuw 1987) of the classes in the map, in [-1, 1]; higher is better
            separated. None where it is not defined: one class, or as many as samples.
        silhouette_features: The same in the features.
        neighbors: How many nearest neighbors were looked at.
        samples: How many samples there were.
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
    coordinates: ArrayLike, features: ArrayLike, labels: ArrayLike, *, neighbors: int = NEIGHBORS, threads: int = 1
) -> MapQuality:
    """Quality of a map in one pass over the distances in the map and one over those in the features.

    Values are those of scikit-learn's `trustworthiness` and `silhouette_score`, but no n x n matrix is held, and ties
    of distances in the features count in the map's favor.

    Args:
        coordinates: Places (n, 2).
        features: Features (n, D).
        labels: Classes (n,).
        neighbors: How many nearest neighbors to look at; lowered to less than n / 2.
        threads: Blocks of rows at a time; values do not depend on it.

    Raises:
        InputError: When there are fewer than 5 samples, counts differ, or an array is not finite or all the same.

    Example:
        >>> places = np.array([[0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9.5]])
        >>> quality = map_quality(places, places, [0, 0, 0, 1, 1, 1], neighbors=2)
        >>> quality.agreement_map, quality.agreement_chance, quality.trustworthiness
        (1.0, 0.4, 1.0)
    """
    places = centered_features(coordinates, "the map", LEAST_SAMPLES)
    high = centered_features(features, "the encoder", LEAST_SAMPLES)
    if len(places) != len(high):
        raise InputError(f"expected a map of the {len(high)} samples with features, got {len(places)} places")
    classes = class_numbers(labels, len(high))
    count = min(checked_count("neighbors", neighbors, 1), (len(high) - 1) // 2)
    in_map = _looked_at(places, classes, count, None, threads)
    in_features = _looked_at(high, classes, count, in_map.nearest, threads)
    sizes = np.bincount(classes)
    samples = len(high)
    worst = samples * count * (2 * samples - 3 * count - 1) / 2
    return MapQuality(
        agreement_map=in_map.agreement,
        agreement_features=in_features.agreement,
        agreement_chance=float((sizes * (sizes - 1)).sum() / (samples * (samples - 1))),
        trustworthiness=float(1 - in_features.intrusion / worst),
        silhouette_map=in_map.silhouette,
        silhouette_features=in_features.silhouette,
        neighbors=count,
        samples=samples,
    )


@dataclass(frozen=True)
class _Found:
    nearest: np.ndarray
    agreement: float
    silhouette: float | None
    intrusion: int


def _looked_at(points: np.ndarray, classes: np.ndarray, count: int, others: np.ndarray | None, threads: int) -> _Found:
    """Nearest neighbors of all points, and by how much the others' neighbors are not among them."""
    norms = (points**2).sum(axis=1)
    members = np.eye(classes.max() + 1)[classes]
    sizes = members.sum(axis=0)

    def block(rows: slice) -> tuple[np.ndarray, np.ndarray, int]:
        squares = squared_distances(points, rows, norms)
        itself = np.arange(len(squares)), np.arange(rows.start, rows.stop)
        squares[itself] = 0
        silhouettes = _silhouettes(np.sqrt(squares) @ members, classes[rows], sizes)
        squares[itself] = np.inf
        nearest = _nearest(squares, count)
        return nearest, silhouettes, 0 if others is None else _intrusion(squares, others[rows], SAME * norms.max())

    parts = blockwise(block, len(points), 32 * len(points), threads)
    nearest, silhouettes = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    defined = 1 < len(sizes) < len(points)
    return _Found(
        nearest,
        float((classes[nearest] == classes[:, None]).mean()),
        float(silhouettes.mean()) if defined else None,
        sum(part[2] for part in parts),
    )


def _nearest(squares: np.ndarray, count: int) -> np.ndarray:
    return np.argpartition(squares, count - 1, axis=1)[:, :count]


def _silhouettes(sums: np.ndarray, classes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Silhouette of each sample from its distances summed by class, (b, K); 0 for a class of one sample."""
    rows, own = np.arange(len(sums)), sizes[classes]
    within = sums[rows, classes] / np.maximum(own - 1, 1)
    means = sums / sizes
    means[rows, classes] = np.inf
    between = means.min(axis=1)
    larger = np.maximum(within, between)
    differ = (own > 1) & (larger > 0) & np.isfinite(between)
    return np.where(differ, between - within, 0) / np.where(differ, larger, 1)


def _intrusion(squares: np.ndarray, others: np.ndarray, same: float) -> int:
    """Sum of the ranks beyond the last neighbor, over neighbors elsewhere (b, k) that are none here."""
    beyond = 0
    for column in others.T:
        limits = squares[np.arange(len(squares)), column] - same
        before = (squares < limits[:, None]).sum(axis=1)
        beyond += int(np.maximum(before + 1 - others.shape[1], 0).sum())
    return beyond
