"""From names to a discrepancy: source and target in, report out."""

from pathlib import Path

from modgap.discrepancy import estimate
from modgap.discrepancy.report import DiscrepancyReport
from modgap.errors import UsageError
from modgap.forward.logits import LogitsRequest, SourceLogits, read_logits_file, source_logits
from modgap.progress import Progress
from modgap.sources import SourceHandle, open_source
from modgap.targets import CustomData, Target, open_target

__all__ = ["measure_discrepancy", "measure_logits_file"]


def measure_discrepancy(
    source: str,
    target: str,
    *,
    weights: str | None = None,
    custom_data: CustomData | None = None,
    data_dir: Path | None = None,
    pseudo_classes: int | None = None,
    embedder: str | Path | None = None,
    request: LogitsRequest | None = None,
    progress: Progress | None = None,
    **options,
) -> DiscrepancyReport:
    """How far a source model's knowledge is from target data.

    Args:
        source: As for `modgap.sources.open_source`.
        target: As for `modgap.targets.open_target`.
        weights: File or folder that overrides where the source's weights come from.
        custom_data: Description of custom data: kind, label column, groups and so on.
        data_dir: Folder in which a manifest's files lie.
        pseudo_classes: Clusters that stand for a real-valued target's values.
        embedder: Folder of a run of `modgap train` whose stage-1 embedder stands in for the source's own; the
            source's if None.
        request: Which samples, at what size, on what device; None for all at the source's own size.
        progress: Called with a stage's name and the share of its work done since the last call.
        options: Keyword arguments of `modgap.discrepancy.estimate`.

    Raises:
        InputError: When source, target or their combination cannot be used; says why.
    """
    handle = open_source(source, weights=weights)
    data = open_target(target, custom_data=custom_data, data_dir=data_dir, pseudo_classes=pseudo_classes)
    request = request or LogitsRequest()
    trained = None
    if embedder:
        # How values are clustered is not the training's concern.
        whole = open_target(target, custom_data=custom_data, data_dir=data_dir) if pseudo_classes else data
        trained = _embedder(embedder, source, handle, target, whole, request)
    held = source_logits(handle, data, request, progress, trained)
    return _report(source, target, held, progress, options)


def _embedder(folder: str | Path, source: str, handle: SourceHandle, target: str, data: Target, request: LogitsRequest):
    from modgap.transfer.adapted_embedder import run_embedder

    if request.samples.representation:
        raise UsageError("--representation applies to the source's own embedder, not to that of a run")
    return run_embedder(folder, source, handle, target, data, input_size=request.samples.input_size)


def measure_logits_file(path: str, *, progress: Progress | None = None, **options) -> DiscrepancyReport:
    """The same from a user's own file of logits and labels, see `modgap.forward.logits.read_logits_file`."""
    return _report(None, path, read_logits_file(path), progress, options)


def _report(source: str | None, target: str, held: SourceLogits, progress, options: dict) -> DiscrepancyReport:
    result = estimate(held.logits, held.labels, groups=held.groups, progress=progress, **options)
    return DiscrepancyReport(
        source=source,
        target=target,
        result=result,
        source_classes=held.source_classes,
        target_classes=held.target_classes,
        provenance=held.provenance,
        logits_seconds=held.seconds,
    )
