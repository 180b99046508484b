"""The crossed model of errors: its closed form, the fit of tables with holes, and what pilots change."""

from pathlib import Path

import numpy as np
import pytest

from modgap.ranking.history import model as history_model
from modgap.ranking.history.model import Components, error_of, fit_history, forecast, portfolio, transform_error

ROOT = Path(__file__).parent.parent
VARIABLES = 4


def covariances(rng, n_variables=VARIABLES):
    """Covariances of one factor of sources, targets and residuals."""
    found = []
    for variance in (0.02, 0.06, 0.015):
        loadings = rng.uniform(0.5, 0.95, n_variables)
        correlations = np.outer(loadings, loadings)
        np.fill_diagonal(correlations, 1)
        found.append(correlations * variance)
    return found


def table(rng, n_sources, n_targets, parts, holes=0.0):
    """A table that the model draws, a part of whose values is missing."""
    source, target, residual = (np.linalg.cholesky(one) for one in parts)
    n_variables = len(source)
    z = 0.6 + rng.normal(size=(n_sources, 1, n_variables)) @ source.T
    z = z + rng.normal(size=(1, n_targets, n_variables)) @ target.T
    z = z + rng.normal(size=(n_sources, n_targets, n_variables)) @ residual.T
    z[rng.random(z.shape) < holes] = np.nan
    return z


def naive_fit(z):
    """Mean, the three covariances and the sources' effects with their covariances by loops over a complete table."""
    n_sources, n_targets, n_variables = z.shape
    mean = np.mean([z[s, t] for s in range(n_sources) for t in range(n_targets)], axis=0)
    sources = [np.mean([z[s, t] for t in range(n_targets)], axis=0) for s in range(n_sources)]
    targets = [np.mean([z[s, t] for s in range(n_sources)], axis=0) for t in range(n_targets)]
    residual = np.zeros((n_variables, n_variables))
    for s in range(n_sources):
        for t in range(n_targets):
            left = z[s, t] - sources[s] - targets[t] + mean
            residual += np.outer(left, left) / ((n_sources - 1) * (n_targets - 1))
    parts = [
        np.cov(np.array(sources), rowvar=False) - residual / n_targets,
        np.cov(np.array(targets), rowvar=False) - residual / n_sources,
        residual,
    ]
    floor = 1e-6 * max(np.linalg.eigvalsh(part)[-1] for part in parts)
    source, target, residual = (history_model._shrink(part, floor) for part in parts)
    gain = source @ np.linalg.inv(source + residual / n_targets)
    effects = [gain @ (one - mean) for one in sources]
    return mean, source, target, residual, effects, source - gain @ source


def naive_forecast(fitted, n_known, n_targets, sources, z, held_out, noise):
    """Mean and covariance of all variables of all sources, by one pilot after the other on the whole covariance."""
    mean, source, target, residual, effects, covariance = fitted
    n_variables = len(mean)
    unknown = source * (1 + 1 / n_known)
    expected = np.concatenate([mean + (effects[one] if one is not None else 0) for one in sources])
    whole = np.kron(np.ones((len(sources), len(sources))), target * (1 + 1 / n_targets))
    for number, one in enumerate(sources):
        block = slice(number * n_variables, (number + 1) * n_variables)
        whole[block, block] += residual + (covariance if one is not None else unknown)
    for number, variable in np.argwhere(np.isfinite(z)):
        index = number * n_variables + variable
        extra = max(0, 1 / (4 * held_out[number, variable]) - noise[variable])
        gain = whole[:, index] / (whole[index, index] + extra)
        expected = expected + gain * (z[number, variable] - expected[index])
        whole = whole - np.outer(gain, whole[index])
    return expected[::n_variables], np.diag(whole)[::n_variables]


@pytest.mark.parametrize("seed", range(3))
def test_a_complete_history_has_the_closed_form(seed):
    rng = np.random.default_rng(seed)
    z = table(rng, 8, 15, covariances(rng))
    held_out = rng.integers(20, 100, (15, VARIABLES)).astype(float)
    model = fit_history(z, held_out)
    mean, source, target, residual, effects, covariance = naive_fit(z)
    parts = model.components
    for found, expected in (
        (parts.mean, mean),
        (parts.source, source),
        (parts.target, target),
        (parts.residual, residual),
        (model.effects, effects),
        (model.covariances, np.broadcast_to(covariance, model.covariances.shape)),
        (model.noise, (1 / (4 * held_out)).mean(axis=0)),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sources", [[0, 3, 5], [0, None, 2, None]])
def test_a_forecast_equals_that_of_one_pilot_after_the_other(sources):
    rng = np.random.default_rng(1)
    z = table(rng, 7, 12, covariances(rng))
    history_held_out = rng.integers(30, 60, (12, VARIABLES)).astype(float)
    model = fit_history(z, history_held_out)
    new = rng.uniform(0.2, 1.2, (len(sources), VARIABLES))
    new[:, 0] = np.nan
    new[0, 2] = new[1, 1] = np.nan
    held_out = rng.integers(10, 200, new.shape).astype(float)
    found = forecast(model, sources, new, held_out)
    mean, variance = naive_forecast(naive_fit(z), 7, 12, sources, new, held_out, model.noise)
    np.testing.assert_allclose(found.mean, mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.variance, variance, rtol=0, atol=1e-10)
    before = forecast(model, sources)
    mean, variance = naive_forecast(naive_fit(z), 7, 12, sources, np.full(new.shape, np.nan), held_out, model.noise)
    np.testing.assert_allclose(before.mean, mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(before.variance, variance, rtol=0, atol=1e-10)
    assert (found.variance < before.variance).all()


def test_the_fit_of_tables_with_holes_equals_the_closed_form_without_holes(monkeypatch):
    monkeypatch.setattr(history_model, "TOLERANCE", 1e-10)
    rng = np.random.default_rng(2)
    z = table(rng, 12, 30, covariances(rng))
    by_steps, closed = history_model._restricted_likelihood(z), history_model._closed_form(z)
    for name in ("mean", "source", "target", "residual"):
        np.testing.assert_allclose(getattr(by_steps, name), getattr(closed, name), rtol=0, atol=1e-8)


def naive_restricted_likelihood(z, parts):
    """The restricted log likelihood of the observed values by the covariance of all of them, up to a constant."""
    n_sources, n_targets, n_variables = z.shape
    same_source, same_target = np.eye(n_sources), np.eye(n_targets)
    whole = np.kron(np.kron(same_source, np.ones((n_targets, n_targets))), parts.source)
    whole += np.kron(np.kron(np.ones((n_sources, n_sources)), same_target), parts.target)
    whole += np.kron(np.kron(same_source, same_target), parts.residual)
    seen = np.isfinite(z).ravel()
    values = z.ravel()[seen]
    design = np.tile(np.eye(n_variables), (n_sources * n_targets, 1))[seen]
    precision = np.linalg.inv(whole[np.ix_(seen, seen)])
    information = design.T @ precision @ design
    left = values - design @ np.linalg.solve(information, design.T @ precision @ values)
    determinants = [np.linalg.slogdet(one)[1] for one in (whole[np.ix_(seen, seen)], information)]
    return -(sum(determinants) + left @ precision @ left) / 2


def test_the_fit_of_a_table_with_holes_is_a_maximum_of_the_restricted_likelihood(monkeypatch):
    monkeypatch.setattr(history_model, "TOLERANCE", 1e-10)
    rng = np.random.default_rng(3)
    z = table(rng, 9, 14, covariances(rng, 2), holes=0.3)
    z[4, 2:] = np.nan
    parts = history_model._restricted_likelihood(z)
    highest = naive_restricted_likelihood(z, parts)
    for name in ("source", "target", "residual"):
        for _ in range(6):
            change = rng.normal(size=(2, 2)) * 1e-3 * np.abs(getattr(parts, name)).max()
            moved = {**vars(parts), name: getattr(parts, name) + change + change.T}
            assert naive_restricted_likelihood(z, Components(**moved)) < highest


@pytest.mark.parametrize("holes", [0.0, 0.1, 0.3, 0.6])
def test_fitted_covariances_are_those_that_drew_the_tables(holes):
    rng = np.random.default_rng(8)
    ratios = []
    for _ in range(15):
        parts = covariances(rng, 2)
        z = table(rng, 12, 20, parts, holes)
        fitted = history_model._restricted_likelihood(z)
        pairs = zip((fitted.source, fitted.target, fitted.residual), parts, strict=True)
        ratios.append([np.trace(one) / np.trace(other) for one, other in pairs])
    errors = np.std(ratios, axis=0, ddof=1) / np.sqrt(len(ratios))
    assert (np.abs(np.mean(ratios, axis=0) - 1) < 3.5 * errors + 0.02).all()


@pytest.mark.parametrize(
    "holes", [pytest.param(0.1, marks=pytest.mark.long), 0.3, pytest.param(0.6, marks=pytest.mark.long)]
)
def test_forecasts_with_holes_are_unbiased_and_their_intervals_cover(holes):
    rng = np.random.default_rng(4)
    covered, errors = [], []
    for _ in range(20):
        parts = covariances(rng, 3)
        z = table(rng, 10, 31, parts)
        history = z[:, :30].copy()
        history[rng.random(history.shape) < holes] = np.nan
        history[:, 0, 0] = z[:, 0, 0]
        new = np.where([False, True, True], z[:, 30], np.nan)
        found = forecast(fit_history(history), range(10), new)
        standardized = (z[:, 30, 0] - found.mean) / np.sqrt(found.variance)
        errors.append(standardized.mean())
        covered.append(np.mean(np.abs(standardized) < 1.2816))
    assert abs(np.mean(errors)) < 3.5 * np.std(errors, ddof=1) / np.sqrt(len(errors))
    # The forecasts of one table depend on each other, and the fitted covariances are taken as known.
    assert abs(np.mean(covered) - 0.8) < 0.03 + 3.5 * np.std(covered, ddof=1) / np.sqrt(len(covered))


def test_the_expected_error_and_the_probability_of_being_best_are_those_of_draws():
    rng = np.random.default_rng(5)
    model = fit_history(table(rng, 5, 12, covariances(rng, 2)))
    new = np.full((5, 2), np.nan)
    new[:, 1] = rng.uniform(0.3, 0.9, 5)
    found = forecast(model, range(5), new)
    z = found.mean + rng.normal(size=(200_000, 5)) * np.sqrt(found.variance)
    np.testing.assert_allclose(found.error, (np.sin(z) ** 2).mean(axis=0), atol=2e-3)
    assert found.best.sum() == pytest.approx(1)
    assert found.best.argmax() == found.mean.argmin()
    low, high = found.interval(0.8).T
    assert ((low <= found.error) & (found.error <= high)).all()
    assert np.array_equal(forecast(model, range(5), new).best, found.best)


def test_an_error_and_its_transform_belong_together():
    errors = np.array([0.0, 0.2, 0.5, 1.0])
    np.testing.assert_allclose(error_of(transform_error(errors), np.zeros(4)), errors, atol=1e-12)
    rng = np.random.default_rng(6)
    for error in (0.1, 0.5):
        z = transform_error(rng.binomial(200, error, 20_000) / 200)
        assert z.var() == pytest.approx(1 / 800, rel=0.05)


@pytest.mark.parametrize("shape", [(1, 5, 2), (5, 1, 2)])
def test_a_history_of_one_source_or_target_is_refused(shape):
    with pytest.raises(ValueError, match="two sources"):
        fit_history(np.full(shape, 0.5))


@pytest.mark.parametrize("errors", [np.full((3, 4, 2), 0.5), np.zeros((2, 2, 6)), np.eye(3)[:, :, None].repeat(5, 2)])
@pytest.mark.parametrize("hole", [False, True])
def test_errors_that_are_equal_or_too_few_have_a_finite_model(errors, hole):
    z = transform_error(errors)
    if hole:
        z[0, 0, 1:] = np.nan
    new = np.full((3, z.shape[2]), 0.5)
    found = forecast(fit_history(z, np.full(z.shape, 1e12)), [0, 1, None], new, np.full(new.shape, 1.0))
    for values in (found.mean, found.variance, found.error, found.best, found.interval()):
        assert np.isfinite(values).all()
    assert ((found.error >= 0) & (found.error <= 1)).all()


def test_a_fit_without_residuals_does_not_diverge(monkeypatch):
    # Four of six pairs have three values each: fewer than the covariances have parameters.
    monkeypatch.setattr(history_model, "MOST_STEPS", 400)
    z = np.full((2, 3, 3), np.nan)
    z[0, 0], z[0, 1] = (0.89323216, 1.02327019, 0.82945515), (1.18299556, 0.18545209, 1.02439576)
    z[1, 0], z[1, 2] = (1.31299932, 1.12746379, 0.05479968), (0.43292037, 1.19164187, 0.82644425)
    parts = fit_history(z).components
    for part in (parts.source, parts.target, parts.residual):
        assert 0 < np.linalg.eigvalsh(part)[-1] < 25


def test_the_page_has_what_ways_to_choose_are_worth_on_the_benchmark(evidence):
    selection, tables = evidence["selection"], evidence["selection_tables"]
    found = selection.choices(tables.fine_tuning_table())
    text = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    section = text.partition("Fine-tuning, at most 128")[2].partition("MTEB")[0]
    for name, choice in found.items():
        interval = evidence["two_way"].target_interval(choice.regrets)
        assert f"| {name} | {interval.mean:.2f} [" in section
    means = {name: choice.regrets.mean() for name, choice in found.items()}
    pilots = [name for name in found if name.startswith("pilot")]
    assert means["history alone"] == means["constant answer"] < min(means[name] for name in pilots)
    assert all(means[f"history and {name}"] < means["constant answer"] for name in pilots)


def test_the_page_has_what_ways_to_choose_are_worth_on_the_history_that_ships(evidence):
    """Those without the model, which takes minutes to fit on targets that some sources do not read."""
    table = evidence["selection_tables"].shipped_table()
    assert "fonts" in table.targets
    assert "glyphs" not in table.targets, "it has the samples of fonts"
    text = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    section = text.partition(f"{table.name}: {len(table.models)} models, {len(table.targets)} targets")[2]
    for name, choice in evidence["selection"].score_choices(table).items():
        interval = evidence["two_way"].target_interval(choice.regrets)
        row = f"| {name} | {interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}] | "
        assert row in section.partition("MTEB")[0]


def test_the_constant_answer_on_texts_is_that_of_the_other_texts(evidence):
    """Each target is judged by the others, as an earlier target would be."""
    selection = evidence["selection"]
    errors = np.array([[0.1, 0.1, 0.2, np.nan, np.nan, np.nan], [0.2] * 4 + [0.9] * 2, [0.9] * 4 + [0.1] * 2])
    table = selection.Table("", list("abc"), list("uvwxyz"), errors)
    regrets = selection.score_choices(table)[selection.CONSTANT].regrets
    assert regrets == pytest.approx([0, 0, 0, 70, 0, 0])


def naive_portfolio(errors, size):
    chosen = []
    for _ in range(size):
        best = {
            one: np.mean([min(errors[each, target] for each in [*chosen, one]) for target in range(errors.shape[1])])
            for one in range(len(errors))
            if one not in chosen
        }
        chosen.append(min(best, key=best.get))
    return chosen


def test_a_portfolio_lowers_the_lowest_error_most():
    rng = np.random.default_rng(7)
    for _ in range(20):
        errors = rng.random((6, 9))
        assert portfolio(errors, 4) == naive_portfolio(errors, 4)
    errors[2] = np.nan
    assert sorted(portfolio(errors, 10)) == [0, 1, 3, 4, 5]
