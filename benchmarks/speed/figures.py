"""Ten main figures, each as two actions to time: what modgap does, and the baseline."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE

from benchmarks.logits import bare_loop, modgap_pass
from benchmarks.mona_step import create_step
from benchmarks.montecarlo import TRIALS, random_problem
from modgap.discrepancy import trials
from modgap.discrepancy.probabilities import Probabilities
from modgap.discrepancy.search import search
from modgap.discrepancy.soft import Labeling, soft_errors
from modgap.inputs.native_embedding import native_embedding
from modgap.labels.label_space import label_space
from modgap.probes.logistic import logistic_path
from modgap.probes.tsne_maps import tsne_maps
from modgap.sources import open_source
from modgap.statistics.splits import repeated_halves
from modgap.targets import open_target

NUMPY_TRIALS = 20
SPLITS = 20


@dataclass(frozen=True)
class Figure:
    """A figure: the time of the baseline divided by modgap's time, for the same amount of work.

    Attributes:
        name: What is compared.
        prepare: Returns modgap's action and the baseline's.
        scale: Amount of modgap's work divided by that of the baseline.
        rounds: Number of times that each action is timed.
    """

    name: str
    prepare: Callable[[], tuple[Callable[[], object], Callable[[], object]]]
    scale: float = 1.0
    rounds: int = 7


def _trials(n: int, k: int, baseline: Callable) -> tuple[Callable, Callable]:
    problem = random_problem(n, k)
    maps = [trials.random_map(problem, 0, trial) for trial in range(NUMPY_TRIALS)]
    return partial(trials.count_trials, problem, stop=TRIALS, threads=1), partial(baseline, problem, maps)


def _numpy_trials(problem, maps) -> list[int]:
    matches = []
    for columns in maps:
        predicted = np.argsort(columns)[problem.logits[:, np.sort(columns)].argmax(axis=1)]
        matches.append(int((predicted == problem.labels).sum()))
    return matches


def _torch_trials(problem, maps) -> torch.Tensor:
    logits, labels = torch.from_numpy(problem.logits), torch.from_numpy(problem.labels)
    columns = torch.from_numpy(np.array(maps)).reshape(-1)
    predicted = logits[:, columns].view(len(labels), -1, problem.n_classes).argmax(dim=2)
    return (predicted == labels[:, None]).sum(dim=0)


def _search() -> tuple[Callable, Callable]:
    """Climb from ten random maps, and climb once with gains that are counted again for each move."""
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 10
    profiles = rng.standard_normal((10, 100), dtype=np.float32)
    logits = rng.standard_normal((500, 100), dtype=np.float32) + profiles[labels]

    def climb() -> np.ndarray:
        chosen = rng.permutation(100)[:10]
        for k in range(10):
            values = []
            for source_class in range(100):
                moved = chosen.copy()
                moved[np.flatnonzero(moved == source_class)] = chosen[k]
                moved[k] = source_class
                order = np.sort(moved)
                predicted = np.argsort(moved)[logits[:, order].argmax(axis=1)]
                values.append((predicted == labels).sum())
            best = int(np.argmax(values))
            chosen[np.flatnonzero(chosen == best)] = chosen[k]
            chosen[k] = best
        return chosen

    return partial(search, logits, labels, 10), climb


def _soft() -> tuple[Callable, Callable]:
    """Fit the soft maps of all halves, and do the same with matrix products of NumPy."""
    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 20
    logits = rng.standard_normal((2000, 1000), dtype=np.float32)
    space = label_space(labels)
    splits = repeated_halves(space, None, SPLITS, 0)
    labeling = Labeling(space, np.full(2000, 1 / 2000), splits)

    def numpy_errors() -> list[float]:
        theta = softmax(logits.astype(np.float64), axis=1)
        one_hot = np.eye(20)[labels]
        errors = []
        for fit, test in zip(splits.fit, splits.test, strict=True):
            chosen = linear_sum_assignment(one_hot[fit].T @ theta[fit], maximize=True)[1]
            errors.append(1 - theta[test, chosen[labels[test]]].mean())
        return errors

    return lambda: soft_errors(Probabilities(logits, space.rows), labeling), numpy_errors


def _pass() -> tuple[Callable, Callable]:
    target = open_target("mnist5k")
    table = target.read()
    source = open_source("efficientnet-lite0").load(128)
    embedding = native_embedding(target.manifest.input, table, source.input)
    source.model.to(memory_format=torch.channels_last)
    images = torch.randn(128, 3, 128, 128)
    rows = np.arange(0, 5000, 40)[:128]
    return partial(modgap_pass, source, table, embedding, rows, 16), partial(bare_loop, source.model, images, 16)


def _mona_step() -> tuple[Callable, Callable]:
    device = torch.device("cpu")
    return create_step("finite-difference", 16, device), create_step("vanilla", 16, device)


def _probe() -> tuple[Callable, Callable]:
    """Fit 20 strengths of the linear probe, and one strength in scikit-learn at a tight tolerance."""
    features, labels = load_digits(return_X_y=True)
    path = logistic_path(features, labels)
    standard = (features - path.mean) / path.scale
    middle = path.strengths[len(path.strengths) // 2]
    peer = LogisticRegression(C=1 / middle, tol=1e-8, max_iter=100_000)
    return partial(logistic_path, features, labels), partial(peer.fit, standard, labels)


def _tsne() -> tuple[Callable, Callable]:
    rng = np.random.default_rng(0)
    labels = np.arange(1500) % 10
    features = rng.standard_normal((1500, 50), dtype=np.float32) + 2 * rng.standard_normal((10, 50))[labels]
    features = features.astype(np.float32)
    scores = PCA(50, random_state=0).fit_transform(features)
    peer = TSNE(perplexity=30, init="pca", random_state=0, n_jobs=1)
    return partial(tsne_maps, {"all": features}, labels, threads=1), partial(peer.fit_transform, scores)


def _run(*arguments: str | Path) -> None:
    subprocess.run([str(part) for part in arguments], check=True, stdout=subprocess.DEVNULL)


def _start() -> tuple[Callable, Callable]:
    command = Path(sys.executable).with_name("modgap")
    return partial(_run, command, "--help"), partial(_run, sys.executable, "-c", "import click")


FIGURES = (
    Figure("trials, K = 10, over NumPy", partial(_trials, 10_000, 10, _numpy_trials), TRIALS / NUMPY_TRIALS),
    Figure("trials, K = 100, over NumPy", partial(_trials, 10_000, 100, _numpy_trials), TRIALS / NUMPY_TRIALS),
    Figure("trials, K = 18, over torch", partial(_trials, 3956, 18, _torch_trials), TRIALS / NUMPY_TRIALS),
    Figure("a restart of the search over a round of naive climbing", _search),
    Figure("soft error over NumPy", _soft),
    Figure("pass of logits over a bare loop", _pass),
    Figure("step of MoNA over a step of fine-tuning", _mona_step),
    Figure("a strength of the linear probe over scikit-learn", _probe, 20, rounds=3),
    Figure("t-SNE map over scikit-learn", _tsne, rounds=3),
    Figure("help of the command over importing click", _start, rounds=15),
)
"""The figures, by the order of docs/benchmarks.md. Higher is faster."""
