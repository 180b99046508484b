"""Rankings made from arrays, without running a source."""

import numpy as np

from modgap.ranking.report import RankingResult
from modgap.ranking.report_details import ReportDetails
from modgap.ranking.scores import get_score
from modgap.ranking.standings import compute_standings
from modgap.ranking.types import (
    BASELINE,
    CONTROL,
    SOURCE,
    JobCounts,
    RankRequest,
    ScoreTable,
    SourceRow,
    TargetSummary,
)

CLASSES = ("hAd", "hEd", "hId", "hOd")
SUBSAMPLES = 12


def make_ranking(leep=(-2.0, -2.2, -2.39), control=-2.39, knn=(0.7, 0.72, 0.75), baseline=None, names=None, **fields):
    """Return a ranking by LEEP of some sources, with a control of each, and a baseline.

    Args:
        leep: LEEP of each source. NaN for a source that failed.
        control: LEEP of each control.
        knn: k-NN error of each source and of its control.
        baseline: Error of the baseline beside linear probes with the k-NN errors. None for no linear probes.
        names: Names of the sources.
        fields: Fields of the target's summary.
    """
    names = names or [f"vit-{number}" for number in range(len(leep))]
    rows = [
        SourceRow(name, SOURCE, properties={"parameters": 10**6 * (n + 1)}, report_details=details(n))
        for n, name in enumerate(names)
    ]
    rows += [SourceRow(f"random:{name}", CONTROL, requested=False, properties={"parameters": 10**6}) for name in names]
    rows.append(SourceRow("baseline:linear", BASELINE, requested=False))
    n = len(names)
    values = {
        "leep": [*leep, *[control if np.isfinite(one) else np.nan for one in leep], np.nan],
        "knn": [*knn, *[0.8] * n, np.nan],
    }
    if baseline is not None:
        values["linear-probe"] = [*knn, *[0.8] * n, baseline]
    tables = {name: score_table(name, np.array(column), n) for name, column in values.items()}
    summary = TargetSummary(
        **{
            "name": "/data/vowel.csv",
            "task": "classification",
            "samples": 500,
            "classes": len(CLASSES),
            "groups": 15,
            "largest_class_share": 0.1,
            "smallest_class_samples": 40,
            "label_entropy": 2.398,
            **fields,
        }
    )
    request = RankRequest(resamples=SUBSAMPLES, report_details=True)
    return RankingResult(
        summary, tuple(rows), tables, "leep", request, {"features": JobCounts(8, 3)}, {"features": 19.0}
    )


def score_table(name, values, n_sources):
    score = get_score(name)
    rng = np.random.default_rng(0)
    resampled = values[:, None] + 0.02 * rng.standard_normal((len(values), SUBSAMPLES))
    standings = compute_standings(values, resampled, higher_is_better=score.higher_is_better, bounds=score.bounds)
    among = standings.among(np.arange(len(values)) < n_sources)
    reasons = tuple("" if np.isfinite(value) else "Not defined: the source has no head." for value in values)
    return ScoreTable(name, score.higher_is_better, standings, among, reasons)


def details(seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % len(CLASSES)
    discrepancy = {
        "value": 0.636, "held_out": 0.844, "interval": [0.788, 0.9], "null_mean": 0.764, "null_sd": 0.005,
        "p_value": 0.01, "corrected_p_value": 0.03, "chance": 0.75,
        "map": [[name, f"source class {n}"] for n, name in enumerate(CLASSES)],
    }  # fmt: skip
    return ReportDetails(discrepancy, rng.standard_normal((120, 2)) + labels[:, None], labels)
