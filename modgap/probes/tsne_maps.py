"""Two-dimensional maps of features by t-SNE, one for each encoder, and the quality of each map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from modgap.errors import InputError, UsageError
from modgap.probes.feature_arrays import center_features, validate_count
from modgap.probes.input_checks import class_numbers
from modgap.probes.single_thread import single_blas_thread

NEIGHBORS = 10
MIN_QUALITY_SAMPLES = 5


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

    positions = center_features(coordinates, "the map", MIN_QUALITY_SAMPLES)
    centered = center_features(features, "the encoder", MIN_QUALITY_SAMPLES)
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


MIN_SAMPLES = 16
DIMENSIONS = 50
EXAGGERATION = 12
GRID_FROM = 4_000
"""Number of samples from which forces are interpolated on a grid, which is then faster than a tree and as accurate."""


@dataclass(frozen=True)
class TsneMap:
    """A two-dimensional map of one encoder's features.

    Attributes:
        name: Name of the encoder.
        coordinates: Position of each sample, float32, without unit, shape (n, 2); only small and large distances have
            a meaning.
        kl_divergence: Kullback-Leibler divergence of the neighborhoods in the map from those in the features, in nats.
            Lower is better. It is comparable only between maps with the same perplexity and number of samples.
        quality: Quality of the map.
        parameters: Everything else that the map depends on, besides the features; strict JSON.
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
    seed: int = 0,
    iterations: Sequence[int] = (250, 500),
    neighbors: int = NEIGHBORS,
    threads: int = 1,
) -> dict[str, TsneMap]:
    """Compute maps of several encoders' features of the same samples that can be compared (MoNA, section 2.2, Fig. 2).

    The method is t-SNE (van der Maaten and Hinton 2008). Features with more than 50 dimensions are reduced to their
    first 50 principal components. All maps start from the first two principal components of the first encoder. Nearest
    neighbors are exact, since with approximate ones a map would depend on the number of threads. A seed gives the same
    bits on one machine; rounding on another machine may move single samples visibly.

    Args:
        features: Features of each encoder, the untouched one first, shape (n, D); D may differ.
        labels: Integer labels, shape (n,); only the quality depends on them.
        perplexity: Effective number of neighbors of a sample, at least 2. It is lowered to (n - 1) // 3 if there are
            few samples; the parameters then record it.
        seed: Seed of the noise that is added to the start, 1 % of its spread.
        iterations: Numbers of iterations with early exaggeration and after it.
        neighbors: Number of neighbors for the quality.
        threads: Number of threads for the forces; results do not depend on it.

    Returns:
        The maps by the name of the encoder, in the order of the features.

    Raises:
        UsageError: When an option is out of range.
        InputError: When there are fewer than 16 samples, the numbers of samples differ, or features are not finite or
            the same for all samples.
    """
    _validate_options(perplexity, iterations)
    threads = validate_count("threads", threads, 1)
    seed = validate_count("seed", seed, 0, 2**32 - 1)
    reduced = _reduce_all(features)
    first = next(iter(reduced.values()))
    classes = class_numbers(labels, len(first))
    used_perplexity = min(perplexity, (len(classes) - 1) // 3)
    maps: dict[str, TsneMap] = {}
    for name, array in reduced.items():
        start = _initial_positions(first, seed)
        positions, divergence = _optimize(array, start, used_perplexity, iterations, threads)
        coordinates = positions.astype(np.float32)
        parameters = _parameters(np.shape(features[name])[1], array.shape[1], perplexity, used_perplexity, seed)
        parameters |= {
            "initialization": "shared",
            "iterations": list(iterations),
            "gradient": _gradient_method(len(array)),
        }
        quality = map_quality(coordinates, features[name], classes, neighbors=neighbors)
        maps[name] = TsneMap(name, coordinates, divergence, quality, parameters)
    return maps


def _validate_options(perplexity: float, iterations: Sequence[int]) -> None:
    if not 2 <= perplexity < np.inf:
        raise UsageError(f"The perplexity is {perplexity}. Expected at least 2; 5 to 50 is usual.")
    if len(iterations) != 2:
        raise UsageError(
            f"The iterations are {tuple(iterations)}. Expected two numbers: with early exaggeration, and after it."
        )
    for number in iterations:
        validate_count("iterations", number, 0)


def _parameters(
    dimensions: int, components: int, requested_perplexity: float, used_perplexity: float, seed: int
) -> dict[str, Any]:
    import openTSNE

    lowered = {"requested_perplexity": float(requested_perplexity)} if used_perplexity < requested_perplexity else {}
    return {
        "method": "t-SNE",
        "library": f"openTSNE {openTSNE.__version__}",
        "perplexity": float(used_perplexity),
        **lowered,
        "dimensions": int(dimensions),
        "principal_components": int(components) if components < dimensions else None,
        "neighbors": "exact, Euclidean",
        "exaggeration": EXAGGERATION,
        "learning_rate": "n / exaggeration",
        "seed": seed,
    }


def _principal_scores(centered: np.ndarray, count: int) -> np.ndarray:
    """Return the scores on the first principal components, with deterministic signs, shape (n, count)."""
    from sklearn.decomposition import PCA

    solver = "covariance_eigh" if len(centered) >= centered.shape[1] else "full"
    with single_blas_thread():
        return np.asarray(PCA(count, svd_solver=solver).fit_transform(centered))


def _reduce_all(features: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Return the reduced features of each encoder, after checking that all have the same number of samples."""
    if not features:
        raise UsageError("There are no features to map. At least one encoder is needed.")
    reduced = {}
    for name, values in features.items():
        # At most 50 principal components, scaled to root mean square 1, on which the optimization depends.
        array = center_features(values, name, MIN_SAMPLES)
        most = min(DIMENSIONS, len(array))
        array = _principal_scores(array, most) if array.shape[1] > most else array
        reduced[name] = np.asarray(array / np.sqrt((array**2).sum(axis=1).mean()))
    counts = {name: len(array) for name, array in reduced.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"The numbers of samples differ: {listed}. All maps need features of the same samples.")
    return reduced


def _initial_positions(array: np.ndarray, seed: int) -> np.ndarray:
    """Return two principal components with the small spread that t-SNE needs, and noise that parts equal samples."""
    from openTSNE import initialization

    narrow = array.shape[1] <= 2
    scores = np.pad(array, ((0, 0), (0, 2 - array.shape[1]))) if narrow else _principal_scores(array, 2)
    order = np.argsort(-scores.var(axis=0), kind="stable")
    scaled = initialization.rescale(scores[:, order])
    return np.asarray(initialization.jitter(scaled, random_state=seed))


def _gradient_method(samples: int) -> str:
    return "fft" if samples >= GRID_FROM else "bh"


def _optimize(
    array: np.ndarray, start: np.ndarray, perplexity: float, iterations: Sequence[int], threads: int
) -> tuple[np.ndarray, float]:
    """Return positions, shape (n, 2), and their Kullback-Leibler divergence."""
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN

    with single_blas_thread():
        affinities = PerplexityBasedNN(array, perplexity, method="exact", n_jobs=1)
    early, late = iterations
    options = {"learning_rate": "auto", "n_jobs": threads, "negative_gradient_method": _gradient_method(len(array))}
    embedding = TSNEEmbedding(np.ascontiguousarray(start), affinities, **options)
    embedding.optimize(early, exaggeration=EXAGGERATION, momentum=0.8, inplace=True)
    embedding.optimize(late, momentum=0.8, inplace=True)
    # The divergence is the only number that several threads sum in an arbitrary order.
    embedding.optimize(0, n_jobs=1, inplace=True)
    positions = np.array(embedding)
    if not np.isfinite(positions).all():
        raise InputError("t-SNE returned positions that are not finite. Use another perplexity or fewer iterations.")
    return positions, float(embedding.kl_divergence)
