"""Predictors of baselines: linear models, trees and nearest neighbors, fitted by modgap's probes and scikit-learn."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from modgap.baselines.baseline import N_SEEDS, Predictor, Truth
from modgap.baselines.parts import Affine, Constant, Neighbors, Part, Trees, standard_scale
from modgap.probes.logistic import logistic_path
from modgap.probes.ridge import fit_ridge

ABSENT = -1e3
"""Logit of a class that no training sample has."""
STRENGTHS = (100.0, 1.0, 0.01)
"""L2 strengths of linear models, 1 / C of scikit-learn's LogisticRegression and alpha of its Ridge."""
TEXT_STRENGTHS = (1.0, 0.1, 0.01)
"""L2 strengths of linear models of counts and TF-IDF, whose values are small and not standardized."""
RIDGE_STRENGTHS = tuple(np.logspace(3, -3, 10).tolist())
"""L2 strengths of MiniRocket's ridge classifier, as in its publication."""
N_TREES = 100
"""Number of extremely randomized trees."""
SHARE_OF_FEATURES = 1 / 3
"""Share of the features that a node of a regression tree chooses from. A node for classes chooses from as
many as the square root of their number, which is the default of scikit-learn."""
COUNTS = (5, 1)
"""Numbers of neighbors."""


def constant_scores(truths: Iterable[Truth]) -> np.ndarray:
    """Return the scores (M,) of a prediction that is the same for all samples, which come in one part or several.

    They are the shares of classes or labels, or the means of the values that count. A value that never counts gets the
    average of the other means.
    """
    sums, total = np.zeros(1), np.zeros(1)
    for truth in truths:
        values = truth.matrix
        counts = np.ones(values.shape, bool) if truth.mask is None else truth.mask.reshape(values.shape) != 0
        sums = sums + np.where(counts, values, 0).sum(axis=0)
        total = total + counts.sum(axis=0)
    means = sums / np.maximum(total, 1)
    scores: np.ndarray = np.where(total > 0, means, means[total > 0].mean() if (total > 0).any() else 0)
    return scores


# Linear models


def fit_linear(
    values: np.ndarray, truth: Truth, strengths: Sequence[float], factors: np.ndarray | None = None
) -> list[Part]:
    """Fit logistic regression for classes and labels, and ridge regression for values, with each strength.

    Args:
        values: Features, (n, D). The fit standardizes them.
        truth: Truth of the n samples.
        strengths: L2 strengths, 1 / C of scikit-learn's LogisticRegression and alpha of its Ridge.
        factors: Number above 0 by which each standardized feature is multiplied, (D,), so that its L2 strength is
            divided by the square. None for 1.

    Returns:
        A model for each strength, in their order.
    """
    if truth.output.task == "classification":
        return list(_logistic(values, truth.y, truth.output.shape[0], strengths, factors))
    if truth.output.task == "multi-label":
        return _logistic_of_labels(values, truth.y, strengths, factors)
    return _ridge_path(values, truth.matrix, strengths, factors)


def _logistic(
    values: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    strengths: Sequence[float],
    factors: np.ndarray | None = None,
) -> list[Affine]:
    """Fit multinomial logistic regression with each strength; if all samples have one class, predict it always."""
    present, width = np.unique(labels), values.shape[1]
    if len(present) == 1:
        alone = _of_all_classes(n_classes, present, np.zeros((1, width)), np.zeros(1))
        return [Affine(np.zeros(width), np.ones(width), *alone)] * len(strengths)
    path = logistic_path(values, labels, strengths, factors=factors)
    fitted = zip(path.weights, path.intercepts, strict=True)
    return [Affine(path.mean, path.scale, *_of_all_classes(n_classes, path.classes, *one)) for one in fitted]


def _of_all_classes(
    n_classes: int, present: np.ndarray, weights: np.ndarray, intercepts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, D) and intercepts (K,) of all classes, from those of the classes that samples have.

    Args:
        n_classes: Number K of classes.
        present: Classes that samples have, (P,). The others get the logit `ABSENT`.
        weights: Weights of these classes, (P, D).
        intercepts: Intercepts of these classes, (P,).
    """
    all_weights = np.zeros((n_classes, weights.shape[1]))
    all_intercepts = np.full(n_classes, ABSENT)
    all_weights[present], all_intercepts[present] = weights, intercepts
    return all_weights, all_intercepts


def _logistic_of_labels(
    values: np.ndarray, labels: np.ndarray, strengths: Sequence[float], factors: np.ndarray | None = None
) -> list[Part]:
    """Fit one logistic regression for each label."""
    columns = labels.astype(np.int64).T
    of_labels = [_logistic(values, column, 2, strengths, factors) for column in columns]
    # The model of a label that all samples have, or none, has no weights and no scale of its own.
    scaled = next((number for number, column in enumerate(columns) if column.min() < column.max()), 0)
    return [
        Affine(
            models[scaled].mean,
            models[scaled].scale,
            *_log_odds([(model.weights, model.intercepts) for model in models]),
        )
        for models in zip(*of_labels, strict=True)
    ]


def _log_odds(models: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (K, D) and intercepts (K,) of the log-odds of K labels.

    Args:
        models: Weights (2, D) and intercepts (2,) of the logits of absence and presence, for each label.
    """
    weights = np.stack([of_logits[1] - of_logits[0] for of_logits, _ in models])
    return weights, np.array([of_logits[1] - of_logits[0] for _, of_logits in models])


def _fit_ridge(values: np.ndarray, truth: Truth, _seed: int) -> list[Part]:
    """Fit ridge regression to the values, or to -1 and 1 for classes and labels, with MiniRocket's strengths."""
    is_values = truth.output.task == "regression"
    return _ridge_path(values, truth.matrix if is_values else 2 * truth.matrix - 1, RIDGE_STRENGTHS)


def _ridge_path(
    values: np.ndarray, targets: np.ndarray, strengths: Sequence[float], factors: np.ndarray | None = None
) -> list[Part]:
    """Fit ridge regression of the standardized features to targets (n, M) with each strength."""
    mean, scale = standard_scale(values)
    if factors is not None:
        # A smaller scale is a larger standardized feature.
        scale = scale / factors
    weights, intercepts = fit_ridge((values - mean) / scale, targets, strengths)
    return [Affine(mean, scale, *of_strength) for of_strength in zip(weights, intercepts, strict=True)]


def _sparse_model(values: csr_matrix, truth: Truth, strength: float, seed: int) -> Part:
    """Fit a linear model of sparse features, which are not standardized, by scikit-learn."""
    from sklearn.linear_model import Ridge

    width = values.shape[1]
    if truth.output.task == "regression":
        ridge = Ridge(strength, solver="sparse_cg", random_state=seed % N_SEEDS).fit(values, truth.matrix)
        weights, intercepts = ridge.coef_.reshape(-1, width), np.ravel(ridge.intercept_)
    elif truth.output.task == "classification":
        weights, intercepts = _sparse_logistic(values, truth.y, truth.output.shape[0], strength)
    else:
        columns = truth.y.astype(np.int64).T
        weights, intercepts = _log_odds([_sparse_logistic(values, column, 2, strength) for column in columns])
    return Affine(np.zeros(width), np.ones(width), weights, intercepts)


def _sparse_logistic(
    values: csr_matrix, labels: np.ndarray, n_classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    present = np.unique(labels)
    weights, intercepts = np.zeros((len(present), values.shape[1])), np.zeros(len(present))
    if len(present) > 1:
        model = LogisticRegression(C=1 / strength, max_iter=1000).fit(values, labels)
        # Two classes have one row of weights, for the second of them.
        weights[-len(model.coef_) :], intercepts[-len(model.coef_) :] = model.coef_, model.intercept_
    return _of_all_classes(n_classes, present, weights, intercepts)


def _strength_names(strengths: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"L2 strength {strength:.3g}" for strength in strengths)


LINEAR = Predictor(_strength_names(STRENGTHS), lambda values, truth, _seed: fit_linear(values, truth, STRENGTHS))
RIDGE = Predictor(_strength_names(RIDGE_STRENGTHS), _fit_ridge, n_compared=3)
TEXT_LINEAR = Predictor(
    _strength_names(TEXT_STRENGTHS),
    lambda values, truth, seed: [_sparse_model(values, truth, strength, seed) for strength in TEXT_STRENGTHS],
)


# Nearest neighbors


def _fit_neighbors(values: np.ndarray, truth: Truth, _seed: int) -> list[Part]:
    points = np.asarray(values, np.float64)
    link = _link(truth.output.task)
    return [Neighbors(points, truth.matrix, min(count, len(points)), link) for count in COUNTS]


def _link(task: str) -> str:
    """Return the link of `parts.LINKS` that turns means of targets into scores."""
    return {"classification": "log", "multi-label": "logit", "regression": "identity"}[task]


NEAREST = Predictor(tuple(f"{count} neighbors" if count > 1 else "1 neighbor" for count in COUNTS), _fit_neighbors)


# Trees


def _fit_extra_trees(points: np.ndarray, truth: Truth, seed: int) -> list[Part]:
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    task = truth.output.task
    if task == "regression":
        targets = truth.matrix
        forest = ExtraTreesRegressor(N_TREES, max_features=SHARE_OF_FEATURES, random_state=seed % N_SEEDS)
        forest.fit(points, targets[:, 0] if targets.shape[1] == 1 else targets)
    else:
        forest = ExtraTreesClassifier(N_TREES, random_state=seed % N_SEEDS).fit(points, truth.y)
    trees = [
        _Tree(tree.feature, tree.threshold, tree.children_left, tree.children_right, _leaf_values(tree, forest, truth))
        for tree in (estimator.tree_ for estimator in forest.estimators_)
    ]
    start = np.zeros(trees[0].value.shape[1])
    return [_join(trees, np.zeros(len(trees)), start, 1 / len(trees), _link(task), points.shape[1])]


def _leaf_values(tree: Any, forest: Any, truth: Truth) -> np.ndarray:
    """Return the probability of each class or label, or the values, at each node of a tree, (nodes, M).

    Args:
        tree: Tree of scikit-learn, whose values are (nodes, outputs, classes of an output).
        forest: The forest, which knows the classes.
        truth: Truth of the training samples.
    """
    value: np.ndarray = tree.value
    if truth.output.task == "regression":
        return value[:, :, 0]
    if truth.output.task == "classification":
        shares = np.zeros((len(value), truth.output.shape[0]))
        shares[:, forest.classes_] = value[:, 0]
        return shares
    # A label that all or no training samples have has one class alone.
    classes = [np.asarray(of_label) for of_label in forest.classes_]
    columns = [value[:, number, : len(of_label)] @ (of_label != 0) for number, of_label in enumerate(classes)]
    return np.stack(columns, axis=1)


class _Tree(NamedTuple):
    """The nodes of a tree as arrays, as in `Trees`. A leaf has no left child, a number below 0."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray


def _join(
    trees: Sequence[_Tree], outputs: np.ndarray, start: np.ndarray, weight: float, link: str, width: int
) -> Trees:
    """Return the part of some trees, whose nodes are numbered through all trees.

    Args:
        trees: The trees, each with nodes numbered from 0.
        outputs: First of the scores that each tree adds to, (trees,).
        start: Scores before any tree, (M,).
        weight: Weight of every tree.
        link: Name of the function that turns sums into scores.
        width: Number of features of a sample.
    """
    sizes = [len(tree.left) for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    offsets = np.repeat(roots, sizes)
    nodes = _Tree(*(np.concatenate(arrays) for arrays in zip(*trees, strict=True)))
    is_leaf = nodes.left < 0
    return Trees(
        roots,
        np.where(is_leaf, 0, nodes.feature).astype(np.int32),
        np.where(is_leaf, 0, nodes.threshold).astype(np.float64),
        np.where(is_leaf, -1, nodes.left + offsets).astype(np.int32),
        np.where(is_leaf, -1, nodes.right + offsets).astype(np.int32),
        np.where(is_leaf[:, None], nodes.value, 0).astype(np.float64),
        outputs.astype(np.int32),
        start.astype(np.float64),
        float(weight),
        link,
        int(width),
    )


def _fit_boosting(values: np.ndarray, truth: Truth, seed: int) -> list[Part]:
    """Fit gradient boosting: one model of all classes, or one for each label or value."""
    points = np.asarray(values, np.float32)
    # One class alone has no model of all classes. Each column of the matrix is then constant, which needs no trees.
    if truth.output.task == "classification" and len(np.unique(truth.y)) > 1:
        columns: Iterator[np.ndarray] = iter([truth.y])
    else:
        columns = iter(truth.matrix.T)
    start: list[np.ndarray] = []
    trees: list[tuple[int, np.ndarray]] = []
    for column in columns:
        first_score = sum(map(len, start))
        start_of_column, trees_of_column = _boost(points, column, truth, seed)
        start.append(start_of_column)
        trees.extend((first_score + score, nodes) for score, nodes in trees_of_column)
    if not trees:
        return [Constant(np.concatenate(start))]
    joined = [
        _Tree(
            nodes["feature_idx"],
            nodes["num_threshold"],
            np.where(nodes["is_leaf"] != 0, -1, nodes["left"].astype(np.int64)),
            nodes["right"].astype(np.int64),
            nodes["value"][:, None],
        )
        for _, nodes in trees
    ]
    outputs = np.array([output for output, _ in trees])
    return [_join(joined, outputs, np.concatenate(start), 1.0, "identity", points.shape[1])]


def _boost(
    points: np.ndarray, column: np.ndarray, truth: Truth, seed: int
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Fit one model of gradient boosting.

    Args:
        points: Features, float32, (n, D).
        column: What it predicts, (n,): `truth.y` itself for a model of all classes, or a column of `truth.matrix`.
        truth: Truth of the samples.
        seed: Seed of the fit.

    Returns:
        Scores before any tree, (K,) for a model of K classes, else (1,); and for each tree the number of the score that
        it adds to and its nodes.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    options = {"early_stopping": False, "random_state": seed % N_SEEDS}
    if truth.output.task == "regression":
        model = HistGradientBoostingRegressor(**options).fit(points, column)
    elif len(np.unique(column)) == 1:
        return np.array([-ABSENT if column[0] else ABSENT]), []
    else:
        model = HistGradientBoostingClassifier(**options).fit(points, column)
    start = np.ravel(model._baseline_prediction)
    trees = [(number, tree.nodes) for of_step in model._predictors for number, tree in enumerate(of_step)]
    if truth.output.task != "classification" or column is not truth.y:
        return start, trees
    # Two classes have one score, for the second of them.
    present = np.unique(column)
    rows = present if len(present) > 2 else present[1:]
    start_of_all = np.full(truth.output.shape[0], ABSENT)
    start_of_all[present] = 0
    start_of_all[rows] = start
    return start_of_all, [(int(rows[number]), nodes) for number, nodes in trees]


EXTRA_TREES = Predictor((f"{N_TREES} trees",), _fit_extra_trees)
BOOSTING = Predictor(("100 steps",), _fit_boosting)
