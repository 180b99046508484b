"""Nearest neighbors that two encoders have in common, and the interval of their mean share."""

import numpy as np

from modgap.distortion.similarity_intervals import jackknife_interval
from modgap.probes.single_thread import single_blas_thread

__all__ = ["count_common", "nearest_neighbors", "overlap_interval"]


def nearest_neighbors(array: np.ndarray, neighbors: int, metric: str) -> np.ndarray:
    """Return the numbers of the nearest other samples of each sample, nearest first, shape (n, neighbors).

    Args:
        array: Centered features, shape (n, D).
        neighbors: Number of neighbors, less than n.
        metric: `cosine` or `euclidean`.
    """
    from sklearn.neighbors import NearestNeighbors

    with single_blas_thread():
        search = NearestNeighbors(n_neighbors=neighbors, metric=metric, algorithm="brute").fit(array)
        return np.asarray(search.kneighbors(return_distance=False))


def count_common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the number of entries that the rows of both tables share; entries of a row are different."""
    both = np.sort(np.concatenate([first, second], axis=1), axis=1)
    return np.asarray((both[:, 1:] == both[:, :-1]).sum(axis=1))


def overlap_interval(
    value: float, first: np.ndarray, second: np.ndarray, blocks: np.ndarray, neighbors: int
) -> tuple[float, float]:
    """Return the 95 % interval of the mean overlap, from its values without each block of samples.

    Args:
        value: Mean share of common neighbors among all samples.
        first: Neighbors of each sample under the first encoder, nearest first, shape (n, M). M is at least the number
            of neighbors plus the size of the largest block.
        second: Neighbors under the second encoder, shape (n, M).
        blocks: Block of each sample, 0..J-1, shape (n,).
        neighbors: Number of neighbors that are compared.
    """
    replicates = [
        count_common(
            _without(first[blocks != block], blocks == block, neighbors),
            _without(second[blocks != block], blocks == block, neighbors),
        ).mean()
        / neighbors
        for block in range(int(blocks.max()) + 1)
    ]
    return jackknife_interval(value, np.array(replicates), low=0.0)


def _without(table: np.ndarray, left_out: np.ndarray, neighbors: int) -> np.ndarray:
    """Return the first neighbors of each row that are not left out, shape (rows, neighbors)."""
    order = np.argsort(left_out[table], axis=1, kind="stable")[:, :neighbors]
    return np.take_along_axis(table, order, axis=1)
