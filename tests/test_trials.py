import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modgap.discrepancy import trials
from modgap.discrepancy.kernels.rank_order import code_block, leading_classes, new_items
from modgap.discrepancy.problem import Problem
from modgap.errors import UsageError
from tests import naive

TRIALS = 40


def make(rng, n, c, k, parts=1, ties=False, repeats=False):
    """Return a random problem; with ties, logits take few values, including both zeros."""
    logits = rng.standard_normal((n, c), dtype=np.float32)
    if ties:
        logits = np.round(logits).astype(np.float32)
        logits[rng.random((n, c)) < 0.3] *= -1
    rows = rng.integers(0, n, 2 * n) if repeats else np.arange(n)
    return Problem(logits, rows, rng.integers(0, k, len(rows)), rng.integers(0, parts, len(rows)), k, parts)


def expected(problem, seed, n_trials):
    """Return the matches by trial and part, with one NumPy arg-max for each trial."""
    table = np.zeros((n_trials, problem.n_parts), np.int64)
    for t in range(n_trials):
        drawn = naive.random_map(seed, t, problem.n_source_classes, problem.n_classes)
        for part in range(problem.n_parts):
            members = problem.parts == part
            table[t, part] = naive.matches(problem.logits[problem.rows[members]], problem.labels[members], drawn)
    return table


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    n=st.integers(1, 200),
    c=st.integers(2, 300),
    share=st.floats(0, 1),
    parts=st.integers(1, 3),
    ties=st.booleans(),
    repeats=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_all_kernels_equal_the_numpy_loop(n, c, share, parts, ties, repeats, seed):
    k = 1 + int(share * (c - 1))
    problem = make(np.random.default_rng(seed), n, c, k, parts, ties, repeats)
    wanted = expected(problem, seed, TRIALS)
    for kernel in trials.KERNELS:
        counts, _ = trials.count_trials(problem, seed=seed, trials=TRIALS, kernel=kernel)
        np.testing.assert_array_equal(counts, wanted)


@pytest.mark.parametrize("kernel", trials.KERNELS)
def test_threads_change_nothing(kernel):
    problem = make(np.random.default_rng(3), 500, 90, 12, parts=2, ties=True)
    once, _ = trials.count_trials(problem, seed=5, trials=5000, kernel=kernel)
    for threads in (2, 4, 8):
        other, _ = trials.count_trials(problem, seed=5, trials=5000, kernel=kernel, threads=threads)
        assert other.tobytes() == once.tobytes()


def test_trials_undecided_by_the_leading_ranks_are_counted_exactly(monkeypatch):
    problem = make(np.random.default_rng(4), 150, 200, 10, ties=True)
    wanted = expected(problem, 0, 300)
    monkeypatch.setattr(trials, "n_leading_ranks", lambda c, k: 4)
    np.testing.assert_array_equal(trials.count_trials(problem, trials=300, kernel="bits")[0], wanted)


def test_heads_beyond_sixteen_bits():
    problem = make(np.random.default_rng(5), 40, 70_000, 30)
    wanted = expected(problem, 1, 5)
    for kernel in trials.KERNELS:
        counts, _ = trials.count_trials(problem, seed=1, trials=5, kernel=kernel)
        np.testing.assert_array_equal(counts, wanted)


def test_unknown_kernels_are_refused():
    with pytest.raises(UsageError, match="kernel"):
        trials.count_trials(make(np.random.default_rng(0), 4, 7, 3), kernel="bytes")


def test_maps_are_injective_and_uniform():
    n_maps = 20_000
    c = 7
    k = 3
    problem = make(np.random.default_rng(0), 4, c, k)
    drawn = np.array([trials.random_map(problem, 11, t) for t in range(n_maps)])
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    codes, counts = np.unique(drawn @ [1, c, c * c], return_counts=True)
    assert len(codes) == 7 * 6 * 5
    chi_square = ((counts - n_maps / 210) ** 2 / (n_maps / 210)).sum()
    # 209 degrees of freedom: mean 209, standard deviation 20.4.
    assert abs(chi_square - 209) < 4 * 20.4


@pytest.mark.parametrize("shape", [(50, 3), (50, 64), (50, 1000), (3, 70_000)])
@pytest.mark.parametrize("kind", ["normal", "ties", "outlier", "constant", "huge"])
def test_leading_classes_are_those_of_a_stable_sort(shape, kind):
    rng = np.random.default_rng(7)
    logits = rng.standard_normal(shape, dtype=np.float32)
    logits = {
        "normal": logits,
        "ties": np.round(logits) * rng.choice([-1, 1], shape),
        "outlier": np.where(np.arange(shape[1]) == 1, 1e30, logits),
        "constant": np.zeros(shape),
        "huge": logits / np.abs(logits).max() * 3e38,
    }[kind].astype(np.float32)
    for depth in (1, 40, shape[1]):
        leading = np.empty((shape[0], depth), np.uint32)
        leading_classes(logits, 0, len(logits), leading, *new_items(shape[1]))
        filled = min(depth, shape[1])
        np.testing.assert_array_equal(leading[:, :filled], naive.ranking(logits)[:, :filled])
        assert (leading[:, filled:] == shape[1]).all()


def test_codes_of_a_block_are_ranks():
    logits = np.random.default_rng(8).integers(-2, 3, (40, 17)).astype(np.float32)
    rows = np.array([5, 3, 30])
    codes = np.zeros(17 * 32, np.uint16)
    code_block(logits, rows, 32, codes, *new_items(17)[:3])
    table = codes.reshape(17, 32)[:, :3]
    np.testing.assert_array_equal(np.argsort(-table.astype(int), axis=0).T, naive.ranking(logits[rows]))


def test_the_cost_model_picks_columns_and_bits_as_classes_grow():
    assert trials.cheapest_kernel(1000, 4, 100_000) == "columns"
    assert trials.cheapest_kernel(1000, 100, 100_000) == "bits"


def test_progress_adds_up_to_one():
    problem = make(np.random.default_rng(10), 200, 50, 5)
    shares = []
    for kernel in trials.KERNELS:
        shares.clear()
        trials.count_trials(problem, trials=3000, kernel=kernel, threads=2, progress=shares.append)
        assert sum(shares) == pytest.approx(1)
