"""`modgap.plot_discrepancies`: several discrepancies in one figure."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from modgap.api.arguments import public_function
from modgap.discrepancy.displayed import DiscrepancyResult
from modgap.errors import CONTROL_PREFIX, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@public_function
def plot_discrepancies(results: Iterable[DiscrepancyResult], ax: Any = None) -> "Figure":
    """Draw the held-out errors of one or more sources on the same targets, with their random-weights controls.

    One source has a row for each target. Up to three sources have a panel each, and more are a table of the differences
    between source and control. A result of the source `random:NAME` is the control of NAME. Without it, the control is
    the one of `modgap.measure(..., control=3)`.

    Args:
        results: Results of `modgap.measure` or `modgap.estimate`, one for each source and target.
        ax: Axes of matplotlib to draw on. None for a new figure.

    Raises:
        InputError: If a result has no held-out error.
        UsageError: If there is no result, if two are of the same source and target, if a source has no result on a
            target of another source, or if the panels of two or three sources are to be drawn on one pair of axes.

    Example:
        ```
        results = [modgap.measure("vit-fashion", target, control=3) for target in ("digits", "mnist5k")]
        modgap.plot_discrepancies(results).savefig("targets.png")
        ```
    """
    from modgap.discrepancy.target_figures import plot_sources_on_targets, plot_targets

    by_names: dict[tuple[str, str], DiscrepancyResult] = {}
    for result in results:
        names = (result.source or "source", result.target)
        if names in by_names:
            raise UsageError(f"Two results are of {names[0]} on {names[1]}. Expected one for each source and target.")
        by_names[names] = result
    if not by_names:
        raise UsageError("There is no result to draw. Pass at least one.")
    controls = {f"{CONTROL_PREFIX}{source}" for source, _ in by_names}
    # The results of each source, and the result of its control or None for each.
    pairs: dict[str, tuple[list[DiscrepancyResult], list[DiscrepancyResult | None]]] = {}
    for (source, target), result in by_names.items():
        if source not in controls:
            reports, of_controls = pairs.setdefault(source, ([], []))
            reports.append(result)
            of_controls.append(by_names.get((f"{CONTROL_PREFIX}{source}", target)))
    return plot_sources_on_targets(pairs, ax=ax) if len(pairs) > 1 else plot_targets(*next(iter(pairs.values())), ax=ax)
