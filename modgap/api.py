"""High-level functions that take the names of a source and a target and return a discrepancy report."""

from pathlib import Path
from typing import Any

from modgap.discrepancy import estimate
from modgap.discrepancy.report import DiscrepancyReport
from modgap.errors import UsageError
from modgap.forward.logits import LogitsRequest, SourceLogits, TrainedEmbedder, read_logits_file, source_logits
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
    **options: Any,
) -> DiscrepancyReport:
    """Measure the modality knowledge discrepancy between a source model and target data.

    Args:
        source: Name of the source, as for `modgap.sources.open_source`.
        target: Name or path of the target, as for `modgap.targets.open_target`.
        weights: File or folder to take the source's weights from; None for the source's default weights.
        custom_data: Description of custom data: kind, label column, groups and so on.
        data_dir: Data directory that holds the files of the target's manifest; None for the default one.
        pseudo_classes: Number of clusters that serve as the classes of a real-valued target; None for a target that
            has classes.
        embedder: Folder of a `modgap train` run whose stage-1 embedder replaces the source's embedder; None for the
            source's embedder.
        request: Samples, input size and device of the logits; None for all samples at the source's input size.
        progress: Called with the name of a stage and the share of its work done since the last call.
        options: Keyword arguments of `modgap.discrepancy.estimate`.

    Raises:
        InputError: If the source, the target or their combination cannot be used.
    """
    handle = open_source(source, weights=weights)
    data = open_target(target, custom_data=custom_data, data_dir=data_dir, pseudo_classes=pseudo_classes)
    request = request or LogitsRequest()
    trained_embedder = None
    if embedder:
        # The run was trained on the target's values, and does not depend on how they are clustered.
        unclustered = open_target(target, custom_data=custom_data, data_dir=data_dir) if pseudo_classes else data
        trained_embedder = _load_embedder(embedder, source, handle, target, unclustered, request)
    logits = source_logits(handle, data, request, progress, trained_embedder)
    return _report(source, target, logits, progress, options)


def _load_embedder(
    folder: str | Path, source: str, handle: SourceHandle, target: str, data: Target, request: LogitsRequest
) -> TrainedEmbedder:
    from modgap.transfer.adapted_embedder import run_embedder

    if request.samples.representation:
        raise UsageError(
            "--representation does not apply to the embedder of a run. It applies only to the source's embedder. "
            "Remove --representation or --embedder."
        )
    return run_embedder(folder, source, handle, target, data, input_size=request.samples.input_size)


def measure_logits_file(path: str, *, progress: Progress | None = None, **options: Any) -> DiscrepancyReport:
    """Measure the modality knowledge discrepancy from a file of logits and labels.

    Args:
        path: File to read, see `modgap.forward.logits.read_logits_file`.
        progress: Called with the name of a stage and the share of its work done since the last call.
        options: Keyword arguments of `modgap.discrepancy.estimate`.

    Raises:
        InputError: If the file cannot be read, or its logits and labels cannot be used.
    """
    return _report(None, path, read_logits_file(path), progress, options)


def _report(
    source: str | None, target: str, logits: SourceLogits, progress: Progress | None, options: dict[str, Any]
) -> DiscrepancyReport:
    result = estimate(logits.logits, logits.labels, groups=logits.groups, progress=progress, **options)
    return DiscrepancyReport(
        source=source,
        target=target,
        result=result,
        source_classes=logits.source_classes,
        target_classes=logits.target_classes,
        provenance=logits.provenance,
        logits_seconds=logits.seconds,
    )
