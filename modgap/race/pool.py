"""Models that can take part in a race: baselines of the target's field, and sources, the most promising first."""

import math
from collections.abc import Sequence

from modgap.baselines import baseline_names, get_baseline
from modgap.baselines.baseline import QUICK_SECONDS, expected_seconds, quick_baselines
from modgap.race.steps import Labeled
from modgap.race.strategy import Strategy
from modgap.ranking.history.choice import choose_source
from modgap.ranking.history.lines import Setup
from modgap.ranking.history.sketches import cached_sketch
from modgap.ranking.history.store import known_history
from modgap.ranking.source_patterns import diverse_sources
from modgap.sources import is_control
from modgap.targets import TargetRequest
from modgap.targets.samples import Samples
from modgap.training.fitted_run import suitable_baselines
from modgap.training.pilot import PILOT_EPOCHS, PILOT_RATES, PILOT_SAMPLES


def strategy_of(
    target: TargetRequest,
    sources: Sequence[str],
    labeled: Labeled,
    seed: int,
    *,
    seconds: float,
    workers: int,
    history: bool,
) -> Strategy:
    """Return the strategy with the baselines and sources that can take part; the quickest baseline always does.

    Args:
        target: The target.
        sources: Names of the sources; empty for those on this machine with an open license and without near copies.
        labeled: The labeled samples.
        seed: Seed of the forecast by earlier targets.
        seconds: Budget in seconds.
        workers: Number of steps that run side by side.
        history: True to put sources first that were good on earlier targets.
    """
    data, form, n_labeled = labeled.data, labeled.form, len(labeled.rows)
    suitable = suitable_baselines([get_baseline(name) for name in baseline_names()], data, form)
    durations = {one.name: expected_seconds(one, form, n_labeled) for one in suitable}
    quick = [one.name for one in quick_baselines(suitable, form, n_labeled, QUICK_SECONDS)]
    quick = quick or sorted(durations, key=lambda name: durations[name])[:1]
    names = list(sources) or [name for name in diverse_sources() if not is_control(name)]
    is_dense = data.output.task == "regression" and math.prod(data.output.shape[1:]) > 1
    if history:
        names = _by_history(names, target, labeled.data.table.samples, seed)
    return Strategy(
        {name: durations[name] for name in quick},
        {name: value for name, value in durations.items() if name not in quick},
        tuple(names),
        n_labeled,
        seconds,
        workers,
        probes=not is_dense,
        embeds=form.spec.kind != "text",
    )


def _by_history(names: Sequence[str], request: TargetRequest, samples: Samples, seed: int) -> list[str]:
    """Return sources by their expected errors on earlier targets, the lowest first.

    A source that no earlier target has is expected to have the mean error of the others.
    """
    target = request.open()
    sketch = cached_sketch(target.fingerprint, samples)
    # The setup of pilots, which is near enough to that of the shipped history, so that its errors are used.
    setup = Setup(PILOT_SAMPLES, PILOT_EPOCHS, PILOT_RATES)
    told = choose_source(known_history(), names, setup, None, request.name, sketch, seed)
    return list(names) if told is None else [names[number] for number in told.order_before]
