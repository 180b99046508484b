"""How often a score puts a source above its random-weights control where fine-tuning does: does pretraining help?"""

from collections.abc import Mapping

import numpy as np

from evidence.two_way import MeanInterval, two_way_interval
from modgap.cli.output import print_table


def right(gains: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Return for each pair of a source and its control whether a score orders them as their errors do.

    Args:
        gains: Score of the source minus that of its control, higher is better, (S, T); NaN where one is not defined.
        lower: Error of the control minus that of the source, (S, T).

    Returns:
        1 where both have the same sign, 0 where they have opposite signs, 0.5 where one is 0, NaN without a score.
    """
    same: np.ndarray = (1 + np.sign(gains) * np.sign(lower)) / 2
    return same


def gain_over_always(gains: np.ndarray, lower: np.ndarray, resamples: int) -> MeanInterval:
    """Return the share of pairs that a score orders right, minus that of always preferring the source.

    Only pairs with a score count. The interval is over targets and sources.
    """
    table = right(gains, lower) - right(np.where(np.isnan(gains), np.nan, 1.0), lower)

    def share(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        drawn = table[np.ix_(sources, targets)]
        return np.full(len(targets), np.nanmean(drawn) if (~np.isnan(drawn)).any() else 0.0)

    return two_way_interval(share, *gains.shape, resamples=resamples, pooled=True)


def print_preferred_controls(name: str, gains: np.ndarray, lower: np.ndarray) -> None:
    """Print how often a score prefers the control, and how often it is right then; equal errors count half.

    Args:
        name: Name of the score.
        gains: Score of the source minus that of its control, higher is better, (S, T).
        lower: Error of the control minus that of the source, (S, T).
    """
    preferred = gains < 0
    share = np.mean(right(gains, lower)[preferred]) if preferred.any() else np.nan
    print(f"{name} prefers the control in {preferred.sum()} of {gains.size} pairs, and is right in {share:.0%} of them")


def print_controls(
    scores: Mapping[str, np.ndarray],
    control_scores: Mapping[str, np.ndarray],
    errors: np.ndarray,
    controls: np.ndarray,
    resamples: int,
) -> None:
    """Print how often each score tells rightly whether a source is better than its random-weights control.

    Args:
        scores: Scores of the sources by name, higher is better, each (S, T).
        control_scores: Those of their controls.
        errors: Test errors of the sources in percent, (S, T).
        controls: Test errors of the controls.
        resamples: Number of resamples of sources and targets.
    """
    lower = controls - errors
    rows = []
    for name in sorted(scores, key=lambda name: -float(np.nanmean(right(scores[name] - control_scores[name], lower)))):
        gains = scores[name] - control_scores[name]
        if not np.any(gains[~np.isnan(gains)]):
            continue
        right_gains = right(gains, lower)
        gain = gain_over_always(gains, lower, resamples)
        rows.append([
            name,
            f"{(~np.isnan(gains)).mean():.0%}",
            f"{np.nanmean(right_gains):.0%}",
            f"{100 * gain.mean:+.0f} [{100 * gain.low:+.0f}, {100 * gain.high:+.0f}]",
            f"{np.nanmean(right_gains[lower > 0]):.0%}",
            f"{np.nanmean(right_gains[lower < 0]):.0%}",
        ])  # fmt: skip
    print(
        f"The pretrained source has the lower error in {(lower > 0).mean():.0%} of {lower.size} pairs with its "
        f"random-weights control, and the control in {(lower < 0).mean():.0%}."
    )
    print_table(
        [
            "score",
            "defined",
            "right",
            "minus always the source, points [95 %]",
            "right if the source is better",
            "right if the control is",
        ],
        rows,
        "pairs of source and control that a score orders as their test errors do",
    )
