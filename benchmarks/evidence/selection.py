"""Ways to choose a model for a target, judged by their regret: the error of the choice minus the lowest error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evidence.two_way import regrets
from modgap.ranking.history.model import Forecast, HistoryModel, fit_history, forecast, portfolio, transform_error

RANDOM = "random choice"
CONSTANT = "constant answer"
ALONE = "history alone"
HISTORY = "history and {}"
PORTFOLIO = "{} of a portfolio of {}"


@dataclass(frozen=True)
class Table:
    """Errors of models on targets, and what is known of them before they are chosen.

    Attributes:
        name: Name of the table.
        models: Names of the models S.
        targets: Names of the targets n.
        errors: Error in [0, 1] that counts, (S, n); NaN where there is none.
        pilots: Cheaper errors in [0, 1] by name, each (S, n), in the order in which they become known.
        held_out: Number of samples on which each of them was measured, by name and target, (n,); absent if unknown.
        others: Errors of earlier targets that are never known of a new one, such as those of random weights.
        scores: Scores by name, higher is better, each (S, n); NaN where one is not defined.
        stages: Names of the pilots that are known at each stage.
        portfolio: Number of models of a portfolio; 0 for none.
        seconds: Seconds that each pilot of all models takes on a target, by name, the mean over targets that all read.
    """

    name: str
    models: Sequence[str]
    targets: Sequence[str]
    errors: np.ndarray
    pilots: Mapping[str, np.ndarray] = field(default_factory=dict)
    held_out: Mapping[str, np.ndarray] = field(default_factory=dict)
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    stages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    portfolio: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def of(self, models: np.ndarray, targets: np.ndarray | None = None) -> "Table":
        """Return the table of some models and targets, by their numbers."""
        targets = np.arange(len(self.targets)) if targets is None else targets

        def part(tables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: one[np.ix_(models, targets)] for name, one in tables.items()}

        return Table(
            self.name,
            [self.models[one] for one in models],
            [self.targets[one] for one in targets],
            self.errors[np.ix_(models, targets)],
            part(self.pilots),
            {name: one[targets] for name, one in self.held_out.items()},
            part(self.others),
            part(self.scores),
            self.stages,
            self.portfolio,
        )


@dataclass(frozen=True)
class Choice:
    """The models that a way to choose chose, and how far they are from the best.

    Attributes:
        regrets: Error of its choice minus the lowest error on each target in points, (n,).
        covered: Share of the 80 % intervals of the expected errors that hold the errors; NaN without intervals.
        sure: Mean probability of being best that the chosen models were said to have; NaN without one.
        right: Share of targets on which the chosen model is the best.
    """

    regrets: np.ndarray
    right: float
    covered: float = np.nan
    sure: float = np.nan


def choices(table: Table) -> dict[str, Choice]:
    """Return what each way chooses for each target, with everything fitted on the other targets."""
    by_choice = score_choices(table)
    if table.portfolio:
        members = _portfolios(table.errors, table.portfolio)
        for name, pilot in table.pilots.items():
            pilot_of_members = np.where(members, pilot, np.nan)
            by_choice[PORTFOLIO.format(name, table.portfolio)] = judge_scores(-pilot_of_members, table.errors)
            by_choice[HISTORY.format(PORTFOLIO.format(name, table.portfolio))] = _by_history(table, [name], members)
    variables, stages = Variables.of(table), history_stages(table)
    by_target = [_forecasts(variables, target, stages) for target in range(table.errors.shape[1])]
    return {**by_choice, **{name: judge_forecasts(table.errors, [one[name] for one in by_target]) for name in stages}}


def score_choices(table: Table) -> dict[str, Choice]:
    """Return what each way that orders the models by one number chooses for each target."""
    errors = table.errors
    ways = {RANDOM: np.zeros_like(errors), CONSTANT: _constant(errors)}
    ways |= {name: np.asarray(score) for name, score in table.scores.items()}
    ways |= {name: -np.asarray(pilot) for name, pilot in table.pilots.items()}
    by_choice = {name: judge_scores(scores, errors) for name, scores in ways.items()}
    return by_choice | {RANDOM: replace(by_choice[RANDOM], right=float(np.mean(1 / np.isfinite(errors).sum(axis=0))))}


def history_stages(table: Table) -> dict[str, Sequence[str]]:
    """Return the names of the pilots that are combined with the history, by way to choose; none in the first one."""
    return {ALONE: (), **{HISTORY.format(stage): known for stage, known in table.stages.items()}}


def _forecasts(variables: "Variables", target: int, stages: Mapping[str, Sequence[str]]) -> dict[str, Forecast]:
    """Return the forecast of a target by stage, from a model that was fitted on the others."""
    model = variables.without([target])
    return {name: variables.forecast(model, target, variables.observed(known)) for name, known in stages.items()}


def judge_scores(scores: np.ndarray, errors: np.ndarray) -> Choice:
    """Return what an order chooses among the models that have an error on the target."""
    filled = np.where(np.isfinite(errors), errors, np.inf)
    usable = np.where(np.isfinite(errors), scores, np.nan)
    regret_of = np.zeros(errors.shape[1])
    for target, has in enumerate(np.isfinite(errors).T):
        one = [target]
        regret_of[target] = regrets(usable[has][:, one], filled[has][:, one], np.arange(has.sum()), np.array([0]))[0]
    return Choice(100 * regret_of, float((regret_of == 0).mean()))


def _constant(errors: np.ndarray) -> np.ndarray:
    """Return the scores of the constant answer on each target by the others, (S, n)."""
    n_others = errors.shape[1] - 1
    last = [np.roll(errors, n_others - target, axis=1) for target in range(n_others + 1)]
    return np.stack([constant_scores(one, n_others)[:, -1] for one in last], axis=1)


def constant_scores(errors: np.ndarray, n_earlier: int) -> np.ndarray:
    """Return minus the mean error of each source on the earlier targets, less the mean of all sources there, (S, n).

    On targets that the source with the lowest mean cannot read, the earlier targets that it cannot read count alone, if
    there are any: so there is a constant answer for texts, too.

    Args:
        errors: Errors of the sources, (S, n), of the earlier targets first; NaN where there is none.
        n_earlier: Number of earlier targets.
    """
    centered = errors[:, :n_earlier] - np.nanmean(errors[:, :n_earlier], axis=0)
    is_unread = ~np.isfinite(errors[np.nanmean(centered, axis=1).argmin()])
    scores = np.empty_like(errors)
    for group in (is_unread, ~is_unread):
        of_group = centered[:, group[:n_earlier]] if group[:n_earlier].any() else centered
        n_errors = np.isfinite(of_group).sum(axis=1)
        means = np.where(n_errors > 0, np.nansum(of_group, axis=1) / np.maximum(1, n_errors), np.inf)
        scores[:, group] = -means[:, None]
    return scores


def _portfolios(errors: np.ndarray, size: int) -> np.ndarray:
    """Return which models are in the portfolio that the other targets choose, (S, n)."""
    members = np.zeros(errors.shape, bool)
    for target in range(errors.shape[1]):
        members[portfolio(np.delete(errors, target, axis=1), size), target] = True
    return members


def _by_history(table: Table, known: Sequence[str], members: np.ndarray) -> Choice:
    """Return what the crossed model chooses after some pilots of the members of portfolios, (S, n)."""
    variables = Variables.of(replace(table, pilots={name: table.pilots[name] for name in known}, others={}))
    forecasts = []
    for target in range(table.errors.shape[1]):
        observed = variables.observed(known) & members[:, target, None]
        forecasts.append(variables.forecast(variables.without([target]), target, observed))
    return judge_forecasts(table.errors, forecasts)


@dataclass(frozen=True)
class Variables:
    """Errors of a table as the crossed model takes them; the first variable is the error that counts.

    Attributes:
        names: Names of the variables F.
        z: Transformed errors, (S, n, F).
        held_out: Number of samples on which they were measured, (n, F), NaN where it is unknown.
    """

    names: Sequence[str]
    z: np.ndarray
    held_out: np.ndarray

    @classmethod
    def of(cls, table: Table) -> "Variables":
        """Return the variables of a table: the error that counts, others, and pilots."""
        layers = {"": table.errors, **table.others, **table.pilots}
        held_out = np.full((table.errors.shape[1], len(layers)), np.nan)
        for number, name in enumerate(layers):
            held_out[:, number] = table.held_out.get(name, np.nan)
        return cls(list(layers), transform_error(np.stack(list(layers.values()), axis=2)), held_out)

    def observed(self, known: Sequence[str], models: Sequence[int] | None = None) -> np.ndarray:
        """Return which values are known of a new target, (S, F): these pilots of all models, or of some."""
        rows = np.ones(len(self.z), bool) if models is None else np.isin(np.arange(len(self.z)), models)
        return np.outer(rows, np.isin(self.names, list(known)))

    def without(self, targets: Sequence[int], models: Sequence[int] | None = None) -> HistoryModel:
        """Return the crossed model that was fitted on the other targets, of all models or of some."""
        return self.fitted(np.delete(np.arange(self.z.shape[1]), targets), models)

    def fitted(self, targets: np.ndarray, models: Sequence[int] | None = None) -> HistoryModel:
        """Return the crossed model that was fitted on some targets."""
        z = self.z if models is None else self.z[models]
        return fit_history(z[:, targets], self.held_out[targets])

    def forecast(
        self,
        model: HistoryModel,
        target: int,
        observed: np.ndarray,
        models: Sequence[int] | None = None,
        rows: Sequence[int | None] | None = None,
    ) -> Forecast:
        """Return what a fitted model tells about a target.

        Args:
            model: The fitted model.
            target: Number of the target.
            observed: Which values are known, (S, F).
            models: Numbers of the models to forecast; without it, those that have an error on the target.
            rows: Their numbers in the fitted model, None for one without history; the same numbers without it.
        """
        models = np.flatnonzero(np.isfinite(self.z[:, target, 0])).tolist() if models is None else models
        z = np.where(observed, self.z[:, target], np.nan)[list(models)]
        held_out = np.broadcast_to(self.held_out[target], z.shape)
        return forecast(model, models if rows is None else rows, z, held_out)


def judge_forecasts(errors: np.ndarray, forecasts: Sequence[Forecast]) -> Choice:
    """Return how good the models with the lowest expected errors are, by the forecast of each target.

    Args:
        errors: Errors in [0, 1], (S, n); NaN where there is none.
        forecasts: Forecasts of the models that have an error on each target.
    """
    regret, covered, sure, right = [], [], [], []
    for values, one in zip(errors.T, forecasts, strict=True):
        usable, chosen = values[np.isfinite(values)], one.error.argmin()
        regret.append(100 * (usable[chosen] - usable.min()))
        low, high = one.interval().T
        covered.append(((low <= usable) & (usable <= high)).mean())
        sure.append(one.best[chosen])
        right.append(usable[chosen] == usable.min())
    return Choice(np.array(regret), float(np.mean(right)), float(np.mean(covered)), float(np.mean(sure)))
