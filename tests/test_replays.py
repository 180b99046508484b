"""Replays of the history model: they choose as the model does, and the page says what the recorded results say."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kurtosis

from modgap.ranking.history.model import fit_history, forecast
from tests.test_history_model import covariances
from tests.test_history_model import table as simulated_values

ROOT = Path(__file__).parent.parent
NUMBER = re.compile(r"[+-]?\d+(?:\.(\d+))?")
SHORT, RATES = "history and pilot of 3 epochs", "history and pilot at three rates"


@pytest.fixture(scope="module", name="recorded")
def recorded_table(evidence):
    """The table of the recorded fine-tunings."""
    return evidence["selection_tables"].fine_tuning_table()


def simulated(evidence, n_sources=7, n_targets=10, seed=0):
    """A table that the model draws: an error that counts, a short pilot and a long one."""
    rng = np.random.default_rng(seed)
    z = np.clip(simulated_values(rng, n_sources, n_targets, covariances(rng, 3)), 0.01, 1.55)
    errors, short, long = np.moveaxis(np.sin(z) ** 2, 2, 0)
    names = [f"{kind}{number}" for kind, count in (("s", n_sources), ("t", n_targets)) for number in range(count)]
    return evidence["selection"].Table(
        "simulated",
        names[:n_sources],
        names[n_sources:],
        errors,
        {"short": short, "long": long},
        stages={"short": ["short"], "long": ["short", "long"]},
    )


# The page


def page_tables():
    """The rows of each table of the page's replays, the heads first, by their place."""
    text = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    section = text.partition("<!-- replays: ")[2].partition("<!-- end of the replays -->")[0]
    blocks = [block.splitlines() for block in section.split("\n\n") if block.startswith("|")]
    titles = [block.removesuffix(":") for block in section.split("\n\n") if block.endswith(":")]
    cells = [[[cell.strip() for cell in row.strip("|").split("|")] for row in block] for block in blocks]
    return [(title, rows[0], rows[2:]) for title, rows in zip(titles, cells, strict=True)]


def assert_same_numbers(text, expected):
    """Texts are equal but for their numbers, which differ by one in the last digit at most on other machines."""
    assert NUMBER.sub("#", text) == NUMBER.sub("#", expected)
    for one, other in zip(NUMBER.finditer(text), NUMBER.finditer(expected), strict=True):
        assert float(one[0]) == pytest.approx(float(other[0]), abs=1.01 * 10.0 ** -len(one[1] or ""))


NAMES = ("choice", "new", "more", "short", "calibration", "best", "record", "seeds")
LONG = ("choice", "new", "short", "calibration")


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.long] * (one in LONG)) for one in NAMES])
def test_the_page_has_the_replays_of_the_recorded_results(evidence, recorded, name):
    tables = evidence["replay_tables"]
    assert (*tables.REPLAYS, "seeds") == NAMES
    if name == "seeds":
        jobs, log = evidence["ranking_jobs"], evidence["result_log"].ResultLog(evidence["selection_tables"].TRUTH)
        found = tables.seed_table(evidence["ranking_tables"].read_truth(log, (*jobs.DEVELOPMENT, *jobs.TEST)))
    else:
        found = tables.REPLAYS[name](recorded)
    title, heads, rows = page_tables()[NAMES.index(name)]
    assert_same_numbers(title, found.title)
    for written, computed in zip([heads, *rows], [found.heads, *found.rows], strict=True):
        assert len(written) == len(computed)
        for one, other in zip(written, computed, strict=True):
            assert_same_numbers(one, other)


def test_the_page_has_what_a_built_history_is_worth(evidence):
    """Without a history of two sources and with all targets, of which the tables are complete and quickly fitted."""
    build = evidence["history_build"]
    table = build.shipped_table()
    steps = (0, len(table.targets) - 1)
    replays = [build.replay(table, pair, steps) for pair in build.five_pairs(table)]
    section = (ROOT / "docs" / "history.md").read_text(encoding="utf-8").partition("<!-- history build -->")[2]
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in section.strip().split("\n\n")[0].splitlines()
    ]
    heads, _, first, *_, last = rows
    assert heads == list(build.HEADS)
    assert [row[0] for row in rows[2:]] == [str(number) for number in (*build.STEPS, steps[1])]
    for written, computed in zip((first, last), build.replay_rows(np.stack(replays), steps), strict=True):
        for one, other in zip(written, computed, strict=True):
            assert_same_numbers(one, other)


def cell(table, row, column):
    """A cell of the page's table by the first cell of its row and the head of its column."""
    _, heads, rows = page_tables()[NAMES.index(table)]
    (found,) = [cells for cells in rows if cells[0] == row]
    return found[heads.index(column)]


def inside(text):
    """The value and the interval in the parentheses of a cell."""
    return text.partition("(")[2].removesuffix(")")


def test_the_text_of_the_page_says_what_its_tables_say():
    text = " ".join(
        (ROOT / "docs" / "history.md").read_text(encoding="utf-8").partition("<!-- end of the replays")[2].split()
    )
    rest = "without efficientnet-lite0"
    short, rates = (cell("choice", name, "ten sources") for name in (SHORT, RATES))
    pilot = cell("choice", "pilot at three rates", "ten sources").split()[0]
    seconds = cell("choice", SHORT, "seconds"), cell("choice", "pilot at three rates", "seconds")
    assert f"of all sources ({seconds[0]} seconds) the history model has a regret of {short.split()[0]}" in text
    assert f"three rates without a history one of {pilot} after {seconds[1]} seconds" in text
    assert f"constant answer, {inside(short)}, is not significant" in text
    differences = [inside(cell("choice", RATES, column)) for column in (rest, "pools of five")]
    assert f"constant answer: {' and '.join(differences)}." in text
    assert inside(rates)
    rows = page_tables()[NAMES.index("new")][2]
    changes = [inside(row[2]).split()[0] for row in rows]
    assert f"differences to plain pilots are {min(changes, key=float)} to {max(changes, key=float)}," in text
    assert f"after three rates it is worse ({inside(rows[3][2])})" in text
    alone, both = rows[1][3], rows[1][4].split()[0]
    assert f"with and without the history of the others ({both} and {alone} after 3 epochs)" in text
    assert f"change little: {inside(page_tables()[NAMES.index('more')][2][0][1])} for the first one" in text
    few = page_tables()[NAMES.index("short")][2][:3]
    assert [row[0] for row in few] == ["3", "5", "8"]
    shorts, long = [inside(row[2]).split()[0] for row in few], [row[3].split()[0] for row in few]
    assert (
        "({}, {} and {}). The model after three rates has the lowest regret then, {}, {} and {},".format(*shorts, *long)
        in text
    )
    title = page_tables()[NAMES.index("record")][0]
    assert re.search(r"right in (\S+ % \[.*?\])", title)[1] in text
    seeds = page_tables()[NAMES.index("seeds")][2][1]
    limit = 2 * 2**0.5 * float(seeds[2])
    assert f"is {seeds[1]} in z after 3 epochs, {seeds[2]} points of error" in text
    assert f"less than about {limit:.0f} points (twice" in text


def test_the_text_of_the_page_says_where_forecasts_are_too_wide(evidence, recorded):
    whole = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    text = " ".join(whole.partition("## Where forecasts are too wide")[2].split())
    rows = {row[0]: row for row in page_tables()[NAMES.index("calibration")][2]}
    first = [rows[name][1].split(" [")[0] for name in ("history alone", "history and pilot of 1 epoch", SHORT)]
    assert {f"hold {one} of the errors" in text for one in first} == {True}
    assert f"three rates they hold {rows[RATES][1]} and are too wide: {100 * float(rows[RATES][3]):.0f} %" in text
    gains = [rows[name][5].split()[0] for name in rows]
    assert f"significantly ({rows[RATES][5]} after three rates, and {min(gains[:3], key=float)} to" in text
    assert f"{max(gains[:3], key=float)} up to 3 epochs)" in text
    widths = [rows[name][2] for name in ("history alone", SHORT, RATES)]
    assert "{} points on average before pilots, {} after 3 epochs, {} after three rates".format(*widths) in text
    (likely,) = [row for row in page_tables()[NAMES.index("best")][2] if row[0] == "20 to 40 %"]
    assert f"that history alone gives 20 to 40 %, {likely[1].partition(' of')[0]} were" in text
    others = [
        re.findall(r"(\d+) % \|$", row)[0]
        for row in whole.splitlines()
        if re.match(r"\| history and (first experiment|pilot of 256 samples) \|", row)
    ]
    assert f"hold {min(others, key=int)} % to {max(others, key=int)} % after pilots of all models" in text
    variables = evidence["selection"].Variables.of(recorded)
    forecasts = evidence["replays"].left_out_forecasts(recorded)[RATES]
    z = [(variables.z[:, target, 0] - one.mean) / np.sqrt(one.variance) for target, one in enumerate(forecasts)]
    assert kurtosis(np.concatenate(z)) > 2


def test_the_source_that_is_left_out_is_the_best_on_half_of_the_targets(evidence, recorded):
    best = evidence["replays"].is_best(recorded.errors).sum(axis=1)
    assert recorded.models[best.argmax()] == evidence["replay_tables"].MOST_CHOSEN
    assert 0.5 <= best.max() / len(recorded.targets) < 0.6


# The replays


def test_replays_with_all_targets_and_pilots_are_those_of_the_ways_to_choose(evidence):
    table, replays = simulated(evidence), evidence["replays"]
    found = evidence["selection"].choices(table)
    short, long = (found[f"history and {name}"].regrets for name in ("short", "long"))
    more = replays.after_more_pilots(table, "short", "long", (0, 2, 7))
    np.testing.assert_allclose(more[0].regrets, short)
    np.testing.assert_allclose(more[7].regrets, long)
    few = replays.short_history_regrets(table, 9, ("short", "long"))
    np.testing.assert_allclose(few["history and short"], short)
    np.testing.assert_allclose(few["history and long"], long)
    none_new = replays.new_source_regrets(table, range(7), [])
    np.testing.assert_allclose(none_new["history and long"], long)
    np.testing.assert_allclose(none_new["long"], found["long"].regrets)


def test_a_history_of_few_targets_is_drawn_from_the_others(evidence, monkeypatch):
    table, replays = simulated(evidence), evidence["replays"]
    fitted = []
    original = evidence["selection"].Variables.fitted
    monkeypatch.setattr(
        evidence["selection"].Variables,
        "fitted",
        lambda self, targets: fitted.append(targets) or original(self, targets),
    )
    found = replays.short_history_regrets(table, 4, ("short",))
    assert len(fitted) == 10 * replays.DRAWS
    constant = np.zeros(10)
    for target in range(10):
        for history in fitted[target * replays.DRAWS : (target + 1) * replays.DRAWS]:
            assert len(set(history)) == 4
            assert target not in history
            chosen = table.errors[:, history].mean(axis=1).argmin()
            constant[target] += 100 * (table.errors[chosen, target] - table.errors[:, target].min()) / replays.DRAWS
    np.testing.assert_allclose(found["constant answer"], constant)


def test_pools_differ_and_new_sources_are_chosen_by_one_pilot_as_by_the_pilot_alone(evidence):
    table, replays = simulated(evidence, 10, 12), evidence["replays"]
    pools = replays.pools(10)
    assert len({tuple(pool) for pool in pools}) == 40
    assert {len(set(pool)) for pool in pools} == {5}
    for pool in pools[:3]:
        found = replays.new_source_regrets(table, pool, pool)
        np.testing.assert_allclose(found["history and short"], found["short"])
        lowest = [table.errors[pool, target][table.pilots["short"][pool, target].argmin()] for target in range(12)]
        np.testing.assert_allclose(found["short"], 100 * (lowest - table.errors[pool].min(axis=0)))


def test_the_intervals_of_the_model_need_no_factor_on_tables_that_it_draws(evidence, monkeypatch):
    table, replays = simulated(evidence, 10, 14, seed=1), evidence["replays"]
    found = replays.calibrations(table)
    assert list(found) == ["history alone", "history and short", "history and long"]
    for one in found.values():
        assert 0.65 < one.covered.mean < 0.95
        assert 0.75 < one.factor < 1.25
        assert abs(one.corrected.mean - 0.8) < 0.1
    variables = evidence["selection"].Variables
    original = variables.forecast

    def too_wide(self, *arguments):
        right = original(self, *arguments)
        return type(right)(right.mean, 9 * right.variance, right.error, right.best)

    monkeypatch.setattr(variables, "forecast", too_wide)
    for name, one in replays.calibrations(table).items():
        assert one.factor == pytest.approx(found[name].factor / 3)
        assert one.covered.mean > 0.95
        assert one.corrected.mean == pytest.approx(found[name].corrected.mean)
        assert one.gain.high < 0


def test_the_interval_score_is_the_width_and_five_times_what_lies_outside_on_each_side(evidence):
    ends = np.array([[0.25, 0.75]] * 4)
    score = evidence["replays"]._interval_score(np.array([0.5, 0.25, 0.125, 1.0]), ends)
    np.testing.assert_allclose(score, [0.5, 0.5, 0.5 + 10 * 0.125, 0.5 + 10 * 0.25])


def test_reliability_and_records_are_those_of_loops(evidence):
    replays, rng = evidence["replays"], np.random.default_rng(0)
    probabilities, happened = rng.random(200), rng.random(200) < 0.4
    probabilities[0] = 1.0
    edges = (0, 0.1, 0.5, 1)
    found = list(replays.reliability(probabilities, happened, edges))
    for one, (low, high) in zip(found, pairwise(edges), strict=True):
        inside_bin = [n for n in range(200) if low <= probabilities[n] < high or high == probabilities[n] == 1]
        assert (one.low, one.high, one.count) == (low, high, len(inside_bin))
        assert one.share == pytest.approx(np.mean([happened[n] for n in inside_bin]))
        assert one.forecast == pytest.approx(np.mean([probabilities[n] for n in inside_bin]))
        assert one.interval[0] < one.share < one.interval[1]
    assert [one.low for one in replays.reliability(np.array([0.6]), np.array([1]), edges)] == [0.5]
    errors, controls = rng.integers(0, 4, (3, 6)) / 4, rng.integers(0, 4, (3, 6)) / 4
    record = replays.record_against_controls(errors, controls)
    for source, target in np.ndindex(3, 6):
        others = [other for other in range(6) if other != target]
        wins = [
            (errors[source, o] < controls[source, o]) + 0.5 * (errors[source, o] == controls[source, o]) for o in others
        ]
        assert record[source, target] == pytest.approx(np.mean(wins))


def test_probabilities_of_being_best_are_reliable_on_tables_that_the_model_draws(evidence):
    rng, n_sources = np.random.default_rng(3), 6
    said, best = [], []
    for _ in range(60):
        z = simulated_values(rng, n_sources, 26, covariances(rng, 2))
        model = fit_history(z[:, :-1])
        seen = np.where([False, True], z[:, -1], np.nan)
        said.append(forecast(model, range(n_sources), seen).best)
        best.append(z[:, -1, 0] == z[:, -1, 0].min())
    for one in evidence["replays"].reliability(np.array(said), np.array(best), (0, 0.05, 0.2, 0.5, 1)):
        sd = np.sqrt(one.forecast * (1 - one.forecast) / one.count)
        assert abs(one.share - one.forecast) < 3.5 * sd + 0.02


def test_the_spread_between_seeds_is_that_which_made_the_errors(evidence):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 300, 1)) + 0.25 * rng.normal(size=(8, 300, 2))
    values[3, :, 1] = np.nan
    assert evidence["two_way"].seed_variance(values) ** 0.5 == pytest.approx(0.25, rel=0.05)
    naive = np.mean([(one - other) ** 2 / 2 for one, other in values.reshape(-1, 2) if np.isfinite(other)])
    assert evidence["two_way"].seed_variance(values) == pytest.approx(naive)
