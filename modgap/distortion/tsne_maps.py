"""Maps of features in the plane by t-SNE, one an encoder, and how far each can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes

from modgap.distortion.arrays import centered_features, checked_count, one_thread
from modgap.distortion.input_checks import class_numbers
from modgap.distortion.map_quality import NEIGHBORS, MapQuality, map_quality
from modgap.errors import InputError, UsageError, unknown_name

__all__ = ["MapQuality", "TsneMap", "map_quality", "tsne_maps"]

LEAST_SAMPLES, DIMENSIONS = 16, 50
EXAGGERATION = 12
GRID_FROM = 4_000
"""From so many samples on forces are interpolated on a grid, which is then faster than a tree, and as good."""
INITIALizATIONS = ("shared", "pca")


@dataclass(frozen=True)
class TsneMap:
    """A map of one encoder's features.

    Attributes:
        name: The encoder's.
        coordinates: Places in the plane, float32 (n, 2), without unit; only near and far mean something.
        kl_divergence: Kullback-Leibler divergence of the neighborhoods in the map from those in the features, nats;
            lower is better, and comparable between maps of equal perplexity and sample count only.
        quality: How far the map can be trusted.
        parameters: All that the map depends on beside the features; strict JSON.
    """

    name: str
    coordinates: np.ndarray
    kl_divergence: float
    quality: MapQuality
    parameters: dict[str, Any]


def tsne_maps(
    features: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    perplexity: float = 30,
    initialization: str = "shared",
    seed: int = 0,
    iterations: Sequence[int] = (250, 500),
    neighbors: int = NEIGHBORS,
    threads: int = 1,
) -> dict[str, TsneMap]:
    """Maps of several encoders' features of the same samples that can be compared by eye (MoNA, section 2.2, Fig. 2).

    They are by t-SNE (van der Maaten and Hinton 2008). Features of more than 50 dimensions are reduced to their 50
    first principal components. Nearest neighbors are exact: with approximate ones a map would depend on the number of
    threads. A seed gives the same bits on one machine; rounding on another may move single samples visibly.

    Args:
        features: Features (n, D) of each encoder, the untouched one first; D may differ.
        labels: Classes (n,); only the quality depends on them.
        perplexity: How many neighbors matter to a sample, at least 2; lowered to (n - 1) // 3 where there are few
            samples, which the parameters say.
        initialization: `shared`: all maps start from the first two principal components of the first encoder.
            `pca`: each starts from its own, and is turned onto the first map in the end.
        seed: Of the jitter on the start, 1 % of its spread.
        iterations: Of early exaggeration, and after it.
        neighbors: For the quality.
        threads: For forces and quality; the bits do not depend on it.

    Returns:
        The maps, under the encoders' names and in their order.

    Raises:
        UsageError: When an option is out of range.
        InputError: When there are fewer than 16 samples, counts differ, or features are not finite or all the same.
    """
    _check_options(perplexity, initialization, iterations)
    threads = checked_count("threads", threads, 1)
    seed = checked_count("seed", seed, 0, 2**32 - 1)
    if not features:
        raise UsageError("expected features of at least one encoder for a map, got none")
    reduced = {name: _reduced(array, name) for name, array in features.items()}
    counts = {name: len(array) for name, array in reduced.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"expected features of the same samples for all maps, got sample counts {told}")
    classes = class_numbers(labels, next(iter(counts.values())))
    used = min(perplexity, (len(classes) - 1) // 3)
    maps: dict[str, TsneMap] = {}
    places: dict[str, np.ndarray] = {}
    first = next(iter(reduced.values()))
    for name, array in reduced.items():
        start = _start(first if initialization == "shared" else array, seed)
        found, divergence = _optimized(array, start, used, iterations, threads)
        if initialization == "pca" and places:
            found = _turned(found, next(iter(places.values())))
        places[name] = found
        coordinates = found.astype(np.float32)
        parameters = _parameters(np.shape(features[name])[1], array.shape[1], perplexity, used, seed)
        parameters |= {
            "initialization": initialization,
            "iterations": list(iterations),
            "gradient": _gradient(len(array)),
        }
        quality = map_quality(coordinates, features[name], classes, neighbors=neighbors, threads=threads)
        maps[name] = TsneMap(name, coordinates, divergence, quality, parameters)
    return maps


def _check_options(perplexity: float, initialization: str, iterations: Sequence[int]) -> None:
    if not 2 <= perplexity < np.inf:
        raise UsageError(f"expected a perplexity of at least 2, got {perplexity}; 5 to 50 is usual")
    if initialization not in INITIALizATIONS:
        raise unknown_name("initialization", initialization, INITIALizATIONS)
    if len(iterations) != 2:
        raise UsageError(f"expected iterations as two numbers, exaggerated and after it, got {tuple(iterations)}")
    for number in iterations:
        checked_count("iterations", number, 0)


def _parameters(dimensions: int, kept: int, asked: float, used: float, seed: int) -> dict[str, Any]:
    import openTSNE

    lowered = {"perplexity_asked": float(asked)} if used < asked else {}
    return {
        "method": "t-SNE",
        "library": f"openTSNE {openTSNE.__version__}",
        "perplexity": float(used),
        **lowered,
        "dimensions": int(dimensions),
        "principal_components": int(kept) if kept < dimensions else None,
        "neighbors": "exact, Euclidean",
        "exaggeration": EXAGGERATION,
        "learning_rate": "n / exaggeration",
        "seed": seed,
    }


def _principal(centered: np.ndarray, count: int) -> np.ndarray:
    """Scores (n, count) on the first principal components, their signs settled."""
    from sklearn.decomposition import PCA

    solver = "covariance_eigh" if len(centered) >= centered.shape[1] else "full"
    with one_thread():
        return PCA(count, svd_solver=solver).fit_transform(centered)


def _reduced(features: ArrayLike, name: str) -> np.ndarray:
    """At most 50 principal components, with root mean square 1: t-SNE does not depend on the scale, its search does."""
    array = centered_features(features, name, LEAST_SAMPLES)
    most = min(DIMENSIONS, len(array))
    array = _principal(array, most) if array.shape[1] > most else array
    return array / np.sqrt((array**2).sum(axis=1).mean())


def _start(array: np.ndarray, seed: int) -> np.ndarray:
    """Where samples start: two principal components with the tiny spread that t-SNE needs, equal samples apart."""
    from openTSNE import initialization

    scores = _principal(array, 2) if array.shape[1] > 2 else np.pad(array, ((0, 0), (0, 2 - array.shape[1])))
    order = np.argsort(-scores.var(axis=0), kind="stable")
    return initialization.jitter(initialization.rescale(scores[:, order]), random_state=seed)


def _gradient(samples: int) -> str:
    return "fft" if samples >= GRID_FROM else "bh"


def _optimized(
    array: np.ndarray, start: np.ndarray, perplexity: float, iterations: Sequence[int], threads: int
) -> tuple[np.ndarray, float]:
    """Places (n, 2) and their divergence."""
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN

    with one_thread():
        affinities = PerplexityBasedNN(array, perplexity, method="exact", n_jobs=1)
    early, late = iterations
    options = {"learning_rate": "auto", "n_jobs": threads, "negative_gradient_method": _gradient(len(array))}
    places = TSNEEmbedding(np.ascontiguousarray(start), affinities, **options)
    places.optimize(early, exaggeration=EXAGGERATION, momentum=0.8, inplace=True)
    places.optimize(late, momentum=0.8, inplace=True)
    # The divergence is the one number that threads add up in any order.
    places.optimize(0, n_jobs=1, inplace=True)
    found = np.array(places)
    if not np.isfinite(found).all():
        raise InputError("t-SNE gave places that are not finite; take another perplexity or fewer iterations")
    return found, float(places.kl_divergence)


def _turned(places: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Places turned and mirrored, not stretched, to lie as near as they can to others (orthogonal Procrustes)."""
    return places @ orthogonal_procrustes(places, onto)[0]
