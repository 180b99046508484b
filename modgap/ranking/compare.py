"""Sources whose features and logits are in hand already: a score of each with its interval, and how they stand."""

from collections.abc import Mapping

import numpy as np

from modgap.errors import InputError
from modgap.ranking.evidence import Evidence
from modgap.ranking.halves import on_halves
from modgap.ranking.scores import score
from modgap.ranking.standings import Standings, standings

__all__ = ["compare"]


def compare(name: str, sources: Mapping[str, Evidence], *, resamples: int = 50, seed: int = 0) -> Standings:
    """What `modgap rank` says of a score, without its models, cache and jobs.

    ```
    sources = {"swin": Evidence(features, labels, logits), "vit": Evidence(others, labels)}
    found = compare("logme", sources)
    found.values, found.intervals, found.ranks, found.beats
    ```

    Args:
        name: Of the score, as `modgap scores` lists them.
        sources: By name, what each gave on the same samples in the same order.
        resamples: Half-samples for intervals; none are told of fewer than ten.
        seed: Of the halves and of what the score draws.

    Returns:
        Standings in the order of the sources.

    Raises:
        InputError: When the score is not defined for a source, or the sources' labels are not the same.
        UsageError: When there is no such score; names the near ones.
    """
    own = score(name)
    if not sources:
        raise InputError("expected one source at least, got none")
    first = next(iter(sources.values()))
    for each, evidence in sources.items():
        if not np.array_equal(evidence.labels, first.labels):
            raise InputError(f"source {each}: its labels are not those of the first; give all the same samples")
    values = [own.of(evidence, seed) for evidence in sources.values()]
    halves = np.array([on_halves(own, evidence, seed, range(resamples)) for evidence in sources.values()])
    return standings(values, halves, higher_is_better=own.higher_is_better, bounds=own.bounds)
