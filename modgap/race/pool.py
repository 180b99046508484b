"""Models that can take part in a race: baselines of the target's field, and sources, the most promising first."""

import math
from collections.abc import Sequence

from modgap.baselines import baseline_names, get_baseline
from modgap.baselines.baseline import QUICK_SECONDS, expected_seconds, quick_baselines
from modgap.race.steps import Labeled
from modgap.race.strategy import Strategy
from modgap.ranking.known_sources import TEXT, known_sources_of
from modgap.ranking.source_patterns import diverse_sources, split_input_size
from modgap.sources import describe_source, is_control
from modgap.targets import TargetRequest
from modgap.training.fitted_run import suitable_baselines


def strategy_of(
    target: TargetRequest,
    sources: Sequence[str],
    labeled: Labeled,
    *,
    seconds: float,
    workers: int,
) -> Strategy:
    """Return the strategy with the baselines and sources that can take part; the quickest baseline always does.

    Args:
        target: The target.
        sources: Names of the sources; empty for those on this machine with an open license and without near copies.
        labeled: The labeled samples.
        seconds: Budget in seconds.
        workers: Number of steps that run side by side.
    """
    data, form, n_labeled = labeled.data, labeled.form, len(labeled.rows)
    suitable = suitable_baselines([get_baseline(name) for name in baseline_names()], data, form)
    durations = {one.name: expected_seconds(one, form, n_labeled) for one in suitable}
    quick = [one.name for one in quick_baselines(suitable, form, n_labeled, QUICK_SECONDS)]
    quick = quick or sorted(durations, key=lambda name: durations[name])[:1]
    names = list(sources) or [name for name in diverse_sources() if not is_control(name)]
    is_dense = data.output.task == "regression" and math.prod(data.output.shape[1:]) > 1
    if form.spec.kind == TEXT:
        # Networks of images and sounds do not read texts.
        names = [name for name in names if describe_source(split_input_size(name)[0]).kind == TEXT]
    names = known_sources_of(target, data.table, target.open().manifest, "probes").order(names)
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
