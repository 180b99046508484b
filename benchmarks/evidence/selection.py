"""Ways to choose a model for a target, judged by their regret: the error of the choice minus the lowest error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evidence.two_way import regrets
from modgap.ranking.history.model import fit_history, forecast, portfolio, transform_error

__all__ = ["CONSTANT", "HISTORY", "PORTFOLIO", "Choice", "Table", "choices"]

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
    errors = table.errors
    ways = {RANDOM: np.zeros_like(errors), CONSTANT: _constant(errors)}
    ways |= {name: np.asarray(score) for name, score in table.scores.items()}
    ways |= {name: -np.asarray(pilot) for name, pilot in table.pilots.items()}
    found = {name: _judge(scores, errors) for name, scores in ways.items()}
    found[RANDOM] = replace(found[RANDOM], right=1 / len(errors))
    if table.portfolio:
        members = _portfolios(errors, table.portfolio)
        for name, pilot in table.pilots.items():
            known = np.where(members, pilot, np.nan)
            found[PORTFOLIO.format(name, table.portfolio)] = _judge(-known, errors)
            found[HISTORY.format(PORTFOLIO.format(name, table.portfolio))] = _by_history(table, [name], members)
    found[ALONE] = _by_history(table, [])
    for stage, known in table.stages.items():
        found[HISTORY.format(stage)] = _by_history(table, known)
    return found


def _judge(scores: np.ndarray, errors: np.ndarray) -> Choice:
    """Return what an order chooses among the models that have an error on the target."""
    filled = np.where(np.isfinite(errors), errors, np.inf)
    usable = np.where(np.isfinite(errors), scores, np.nan)
    found = np.zeros(errors.shape[1])
    for target, has in enumerate(np.isfinite(errors).T):
        one = [target]
        found[target] = regrets(usable[has][:, one], filled[has][:, one], np.arange(has.sum()), np.array([0]))[0]
    return Choice(100 * found, float((found == 0).mean()))


def _constant(errors: np.ndarray) -> np.ndarray:
    """Return the negative mean transformed error of each model on the other targets, less those of the targets."""
    scores = np.empty_like(errors)
    for target in range(errors.shape[1]):
        others = np.delete(errors, target, axis=1)
        scores[:, target] = -np.nanmean(others - np.nanmean(others, axis=0), axis=1)
    return scores


def _portfolios(errors: np.ndarray, size: int) -> np.ndarray:
    """Return which models are in the portfolio that the other targets choose, (S, n)."""
    members = np.zeros(errors.shape, bool)
    for target in range(errors.shape[1]):
        members[portfolio(np.delete(errors, target, axis=1), size), target] = True
    return members


def _by_history(table: Table, known: Sequence[str], members: np.ndarray | None = None) -> Choice:
    """Return what the crossed model chooses after some pilots, of all models or of the members of portfolios."""
    names = list(known) if members is not None else [*table.pilots]
    others = [*table.others.values()] if members is None else []
    layers = [table.errors, *others, *(table.pilots[name] for name in names)]
    z = transform_error(np.stack(layers, axis=2))
    held_out = np.full(z.shape[1:], np.nan)
    for number, name in enumerate(names, start=1 + len(others)):
        held_out[:, number] = table.held_out.get(name, np.nan)
    is_known = np.array([False] * (1 + len(others)) + [name in known for name in names])
    regret, covered, sure, right = [], [], [], []
    for target in range(z.shape[1]):
        kept = np.delete(np.arange(z.shape[1]), target)
        model = fit_history(z[:, kept], held_out[kept])
        seen = is_known & (np.ones((len(z), 1), bool) if members is None else members[:, target, None])
        new = np.where(seen, z[:, target], np.nan)
        found = forecast(model, range(len(z)), new, np.broadcast_to(held_out[target], new.shape))
        errors = table.errors[:, target]
        has = np.isfinite(errors)
        chosen = np.flatnonzero(has)[found.error[has].argmin()]
        regret.append(100 * (errors[chosen] - errors[has].min()))
        low, high = found.interval()[has].T
        covered.append(((low <= errors[has]) & (errors[has] <= high)).mean())
        sure.append(found.best[chosen])
        right.append(errors[chosen] == errors[has].min())
    return Choice(np.array(regret), float(np.mean(right)), float(np.mean(covered)), float(np.mean(sure)))
