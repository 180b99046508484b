import functools
import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from scipy.optimize import Bounds, LinearConstraint, milp

from modgap.discrepancy import costs, local_search
from modgap.discrepancy.costs import n_ranks_worth_keeping
from modgap.discrepancy.kernels import dense_gains, gains
from modgap.discrepancy.kernels.annealing import improve
from modgap.discrepancy.kernels.mapped_rows import rows_of
from modgap.discrepancy.kernels.table_gains import new_state, ranks_of
from modgap.discrepancy.ranks import rank_samples
from modgap.discrepancy.search import search
from modgap.errors import UsageError
from tests import naive_search as naive


@njit(cache=True)
def restart_from(source, state, chosen):
    gains.change_map(source, state, chosen, -1, 0)


@njit(cache=True)
def move(source, state, k, c):
    gains.change_map(source, state, state.chosen, k, c)


@njit(cache=True)
def fill_gains(source, state, k, out):
    gains.fill_gains(source, state, k, out)


@pytest.fixture(scope="module")
def branch_and_bound():
    # Imported under its real name, because Numba's cache of compiled functions is looked up by it.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        return importlib.import_module("branch_and_bound").most_matches


@pytest.fixture(params=["tables", "rows"])
def each_way(request, monkeypatch):
    """Make the search use tables of gains, or rows of logits, for all sizes."""
    most = {"tables": 0, "rows": 1000}[request.param]
    monkeypatch.setattr(costs, "ROWS", most)
    monkeypatch.setattr(costs, "ROWS_UNRANKED", most)


@pytest.fixture
def small_samples(monkeypatch):
    """Anneal runs on samples of 60 entries."""
    monkeypatch.setattr(local_search, "SAMPLE", 60)
    monkeypatch.setattr(local_search, "LONG_READS", 1)


def table_gains(state):
    gains = state.gains - state.losses + state.bases[:, None]
    return np.where(state.owner >= 0, 0, gains)


@pytest.mark.parametrize("depth", [None, 1, 3, 20])
@pytest.mark.parametrize("heaviest", [1, 9, 1 << 27])
@pytest.mark.parametrize("ties", [False, True])
def test_incremental_tables_equal_naive_and_refilled_ones(depth, ties, heaviest):
    rng = np.random.default_rng(5)
    logits, labels = naive.problem(rng, 150, 20, 5, 0.5, ties)
    ranks = ranks_of(logits, rank_samples(logits, 5, depth=depth))
    weights = rng.integers(1, heaviest + 1, 150)
    state = new_state(labels, weights, 5, 20)
    fresh = new_state(labels, weights, 5, 20)
    restart_from(ranks, state, np.arange(5))
    for _ in range(25):
        k = rng.integers(5)
        c = rng.integers(20)
        if state.chosen[k] == c:
            continue
        move(ranks, state, k, c)
        restart_from(ranks, fresh, state.chosen)
        for name in ("owner", "best", "second", "above_best", "above_second", "gains", "losses", "bases"):
            np.testing.assert_array_equal(getattr(state, name), getattr(fresh, name), name)
        np.testing.assert_array_equal(state.confusion, fresh.confusion)
        assert sorted(state.deep[: state.size[0]]) == sorted(fresh.deep[: fresh.size[0]])
        assert not state.marked.any()
        assert (state.losses[state.chosen] > weights.sum()).all()
        np.testing.assert_array_equal(table_gains(state), naive.move_gains(logits, labels, state.chosen, weights))
        np.testing.assert_array_equal(state.best, naive.predictions(logits, state.chosen))


def all_gains(source, state):
    """Return the gains of all single moves and swaps, shape (K, C)."""
    table = np.zeros_like(state.gains)
    for k, row in enumerate(table):
        fill_gains(source, state, k, row)
    return table


def swap_gains(logits, labels, chosen, weights):
    """Return the weight of matches gained by swapping two target classes, shape (K, K)."""
    gains = np.zeros((len(chosen), len(chosen)), np.int64)
    for k, j in itertools.product(range(len(chosen)), repeat=2):
        swapped = chosen.copy()
        swapped[[k, j]] = chosen[[j, k]]
        right, before = (naive.predictions(logits, one) == labels for one in (swapped, chosen))
        gains[k, j] = weights[right].sum() - weights[before].sum()
    return gains


@pytest.mark.parametrize("heaviest", [1, 9, 1 << 27])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("classes", "chosen"), [(20, 5), (7, 2), (6, 6)])
def test_gains_from_rows_equal_naive_ones(ties, heaviest, classes, chosen):
    rng = np.random.default_rng(6)
    logits, labels = naive.problem(rng, 110, classes, chosen, 0.5, ties)
    logits[logits == 0] *= rng.choice(np.float32([-1, 1]), (logits == 0).sum())
    rows = np.concatenate([np.arange(110), rng.integers(0, 110, 40)])
    labels = np.concatenate([labels, rng.integers(0, chosen, 40)])
    weights = rng.integers(1, heaviest + 1, 150)
    source = rows_of(logits, rows)
    state = dense_gains.new_state(labels, weights, chosen, classes, len(labels))
    restart_from(source, state, np.arange(chosen))
    for step in range(24):
        k = rng.integers(chosen)
        c = rng.integers(classes)
        if state.chosen[k] != c:
            move(source, state, k, c)
        predicted = naive.predictions(logits[rows], state.chosen)
        counts = np.zeros((chosen, chosen), np.int64)
        np.add.at(counts, (labels, predicted), weights)
        np.testing.assert_array_equal(state.confusion, counts)
        # Gains are updated instead of recounted if few rivals changed since the last request, so not every step asks.
        if step % 4 == 0 or step < 8:
            gains = naive.move_gains(logits[rows], labels, state.chosen, weights)
            gains[:, state.chosen] = swap_gains(logits[rows], labels, state.chosen, weights)
            np.testing.assert_array_equal(all_gains(source, state), gains)


@pytest.mark.parametrize("shape", [(200, 50, 2), (300, 70, 6), (150, 40, 20)])
@pytest.mark.parametrize("ties", [False, True])
def test_tables_and_rows_take_the_same_steps(shape, ties):
    logits, labels = naive.problem(np.random.default_rng(7), *shape, 0.3, ties)
    classes, chosen = shape[1:]
    weights = np.random.default_rng(8).integers(1, 4, len(labels))
    table = new_state(labels, weights, chosen, classes)
    rows = dense_gains.new_state(labels, weights, chosen, classes, len(labels))
    ways = [
        (ranks_of(logits, rank_samples(logits, chosen, depth=9)), table),
        (rows_of(logits, np.arange(len(labels))), rows),
    ]
    for source, state in ways:
        improve(source, state, np.arange(chosen), 1, 2, 4.0, 0.5, 300)
    np.testing.assert_array_equal(table.chosen, rows.chosen)
    np.testing.assert_array_equal(table.confusion, rows.confusion)


@pytest.mark.usefixtures("each_way")
@pytest.mark.slow
@pytest.mark.parametrize("signal", [0.0, 0.7])
def test_search_finds_the_enumerated_optimum(signal):
    for number in range(10):
        logits, labels = naive.problem(np.random.default_rng(number), 200, 12, 4, signal)
        solution = search(logits, labels, 4, seed=number)
        assert solution.value == pytest.approx(enumerated_optimum(number, signal)), number


@functools.cache
def enumerated_optimum(number, signal):
    """Return the optimal value of a problem by enumeration, which both ways of the search have to reach."""
    return naive.optimum(*naive.problem(np.random.default_rng(number), 200, 12, 4, signal), 4)[0]


def milp_optimum(logits, labels, n_classes):
    """Return the optimal value by integer programming: binary x[k, c] is the map, and z[i, c] marks correct samples.

    Sample i with label y can be correct under class c only if x[y, c] = 1 and no class that ranks above c is chosen.
    """
    samples, sources = logits.shape
    ranks = np.argsort(np.lexsort((np.tile(np.arange(sources), (samples, 1)), -logits)), axis=1)
    size = n_classes * sources + samples * sources
    rows = []
    upper = []

    def limit(terms, bound):
        row = np.zeros(size)
        for at, weight in terms:
            row[at] += weight
        rows.append(row)
        upper.append(bound)

    def right(i, c):
        return n_classes * sources + i * sources + c

    for i, c in itertools.product(range(samples), range(sources)):
        limit([(right(i, c), 1), (labels[i] * sources + c, -1)], 0)
        above = np.flatnonzero(ranks[i] < ranks[i, c])
        taken = [(k * sources + d, 1) for k in range(n_classes) for d in above]
        limit([(right(i, c), n_classes), *taken], n_classes)
    for c in range(sources):
        limit([(k * sources + c, 1) for k in range(n_classes)], 1)
    once = np.zeros((n_classes, size))
    for k in range(n_classes):
        once[k, k * sources : (k + 1) * sources] = 1
    worth = np.zeros(size)
    worth[n_classes * sources :] = -1
    result = milp(
        worth,
        constraints=[LinearConstraint(np.array(rows), -np.inf, upper), LinearConstraint(once, 1, 1)],
        integrality=np.ones(size),
        bounds=Bounds(0, 1),
    )
    return 1 + result.fun / samples


@pytest.mark.usefixtures("each_way")
@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_search_agrees_with_an_integer_program(number):
    logits, labels = naive.problem(np.random.default_rng(number), 24, 6, 3, 0.5, ties=number % 2 == 1)
    solution = search(logits, labels, 3)
    assert solution.value == pytest.approx(milp_optimum(logits, labels, 3))


@pytest.mark.parametrize("ties", [False, True])
def test_branch_and_bound_equals_enumeration(branch_and_bound, ties):
    for seed in range(5):
        logits, labels = naive.problem(np.random.default_rng(seed), 40, 8, 4, 0.4 * seed, ties=ties)
        optimum = round((1 - naive.optimum(logits, labels, 4)[0]) * 40)
        assert branch_and_bound(logits, labels, 4, 0) == optimum
        assert branch_and_bound(logits, labels, 4, optimum) == optimum


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("samples", [24, pytest.param(100, marks=pytest.mark.long)])
def test_search_finds_proved_optima(branch_and_bound, samples):
    for seed in range(100, 106):
        logits, labels = naive.problem(np.random.default_rng(seed), samples, 30, 8, seed % 3)
        matches = round((1 - search(logits, labels, 8, seed=seed).value) * samples)
        assert matches == branch_and_bound(logits, labels, 8, matches)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("depth", [None, 2, 7])
def test_value_is_that_of_the_map_with_ties_and_few_ranks(depth):
    logits, labels = naive.problem(np.random.default_rng(1), 300, 40, 6, 0.5, ties=True)
    solution = search(logits, labels, 6, ranking=rank_samples(logits, 6, depth=depth))
    assert solution.value == pytest.approx(naive.value(logits, labels, solution.map))
    assert solution == search(logits, labels, 6)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("shape", [(300, 60, 6), pytest.param((300, 60, 20), marks=pytest.mark.long), (60, 9, 4)])
def test_same_for_any_number_of_threads(threads, shape):
    logits, labels = naive.problem(np.random.default_rng(2), *shape, 0.3)
    options = {"starts": [np.arange(shape[2])], "seed": 3}
    once = search(logits, labels, shape[2], **options)
    assert repr(search(logits, labels, shape[2], **options, threads=threads)) == repr(once)


@pytest.mark.usefixtures("small_samples")
@pytest.mark.parametrize("threads", [1, 3])
def test_runs_annealed_on_a_sample_climb_on_all_entries(threads):
    logits, labels = naive.problem(np.random.default_rng(2), 300, 60, 6, 0.3)
    start = np.arange(6)
    weights = np.random.default_rng(3).integers(1, 4, 300)
    assert local_search.Entries(logits, rank_samples(logits, 6), labels, weights, 6).plan[2] == 60
    solution = search(logits, labels, 6, starts=[start], threads=threads, weights=weights)
    predicted = naive.predictions(logits, np.array(solution.map))
    assert solution.value == pytest.approx(weights[predicted != labels].sum() / weights.sum())
    assert solution.value <= weights[naive.predictions(logits, start) != labels].sum() / weights.sum()
    assert solution == search(logits, labels, 6, starts=[start], weights=weights)


def test_sampled_runs_find_a_planted_map(small_samples):
    logits, labels, hidden = naive.planted(np.random.default_rng(4), 2000, 200, 5)
    assert search(logits, labels, 5).map == tuple(hidden)


@pytest.mark.usefixtures("each_way")
def test_mapped_logits_give_the_same(tmp_path):
    logits, labels = naive.problem(np.random.default_rng(2), 300, 60, 6, 0.3)
    np.save(tmp_path / "logits.npy", logits)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    assert search(mapped, labels, 6) == search(logits, labels, 6)


@pytest.mark.usefixtures("each_way")
def test_as_many_target_as_source_classes():
    logits, labels = naive.problem(np.random.default_rng(3), 200, 15, 15, 1.0)
    solution = search(logits, labels, 15)
    assert sorted(solution.map) == list(range(15))
    small, few = naive.problem(np.random.default_rng(3), 60, 6, 6, 0.5)
    assert search(small, few, 6).value == pytest.approx(naive.optimum(small, few, 6)[0])


@pytest.mark.usefixtures("each_way")
def test_planted_map_is_recovered():
    logits, labels, hidden = naive.planted(np.random.default_rng(4), 2000, 200, 20)
    solution = search(logits, labels, 20, threads=2)
    assert solution.map == tuple(hidden)


@pytest.mark.usefixtures("each_way")
def test_never_worse_than_starts():
    logits, labels = naive.problem(np.random.default_rng(5), 200, 50, 8, 0.3)
    best = search(logits, labels, 8)
    for seed in range(1, 4):
        solution = search(logits, labels, 8, starts=[np.arange(8), best.map], seed=seed)
        assert solution.value <= min(best.value, naive.value(logits, labels, np.arange(8)))


@pytest.mark.usefixtures("each_way")
def test_ranking_can_be_reused_for_a_half_and_for_other_labels():
    logits, labels = naive.problem(np.random.default_rng(6), 200, 50, 5, 0.5)
    half = np.arange(0, 200, 2)
    ranking = rank_samples(logits, 5)
    taken = search(logits, labels[half], 5, ranking=ranking.take(half), seed=1)
    assert taken == search(np.ascontiguousarray(logits[half]), labels[half], 5, seed=1)
    permuted = np.random.default_rng(0).permutation(labels)
    assert search(logits, permuted, 5, ranking=ranking) == search(logits, permuted, 5)
    both = search(logits, labels[half] % 2, 2, ranking=ranking.take(half))
    assert both.value == pytest.approx(naive.value(logits[half], labels[half] % 2, both.map))


@pytest.mark.usefixtures("each_way")
def test_every_entry_of_a_sample_counts():
    logits, labels = naive.problem(np.random.default_rng(7), 50, 30, 4, 0.5)
    rows = np.concatenate([np.arange(50), np.arange(10)])
    both = np.concatenate([labels, (labels[:10] + 1) % 4])
    solution = search(logits, both, 4, ranking=rank_samples(logits, 4).take(rows))
    assert solution.value == pytest.approx(naive.value(logits[rows], both, solution.map))


def test_starts_that_are_not_injective_maps_raise():
    logits, labels = naive.problem(np.random.default_rng(8), 20, 9, 3)
    for start in ([0, 1], [0, 1, 1], [0, 1, 9], [-1, 1, 2]):
        with pytest.raises(UsageError, match="3 different source classes"):
            search(logits, labels, 3, starts=[start])
    with pytest.raises(UsageError, match="19 labels for 20 ranked samples"):
        search(logits, labels[:19], 3)


def test_ranks_worth_keeping_leave_few_samples_open():
    for classes, chosen in [(1000, 100), (1000, 4), (21841, 100), (12, 4), (5, 5), (6, 5)]:
        n_ranks = n_ranks_worth_keeping(1000, classes, chosen)
        p_none = math.comb(classes - n_ranks, chosen) / math.comb(classes, chosen)
        p_one = n_ranks * math.comb(classes - n_ranks, chosen - 1) / math.comb(classes, chosen)
        assert 1 <= n_ranks <= classes
        assert p_none + p_one < 5e-4 or n_ranks == classes
    assert n_ranks_worth_keeping(1 << 20, 20_000, 4) == 128


@pytest.mark.usefixtures("each_way")
def test_random_maps_depend_on_the_seed():
    logits, labels = naive.problem(np.random.default_rng(9), 200, 400, 8)
    assert len({search(logits, labels, 8, seed=seed).map for seed in range(4)}) > 1


def test_ranking_keeps_no_more_than_is_needed():
    assert costs.n_ranks_needed(20_000, 21_841, 4) == 1
    # The search reads rows of logits in the first case, and uses tables in the second.
    assert costs.n_ranks_needed(1000, 200, 10) == 1 < n_ranks_worth_keeping(1000, 200, 10)
    assert costs.n_ranks_needed(1000, 1000, 50) == n_ranks_worth_keeping(1000, 1000, 50) > 1
    assert costs.should_search_rows(200_000, 21_841, 16)
    assert not costs.should_search_rows(200_000, 21_841, 100)
    logits, _ = naive.problem(np.random.default_rng(9), 700, 150, 4, ties=True)
    first = rank_samples(logits, 4, threads=2)
    np.testing.assert_array_equal(first.leading, rank_samples(logits, 4, depth=20).leading[:, :1])


@pytest.mark.parametrize(("entries", "classes", "chosen"), [(24, 30, 8), (1000, 1000, 4), (20_000, 21_841, 12)])
def test_plans_are_within_bounds(entries, classes, chosen):
    runs, steps, sample_size = local_search._plan_rows(entries, classes, chosen)
    assert 1 <= runs <= 24
    assert steps == 5 * chosen**2
    assert min(entries, 2000) <= sample_size <= entries
