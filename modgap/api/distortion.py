"""`modgap.measure_distortion`: what fine-tuning did to a source's knowledge."""

import time
from collections.abc import Sequence

from modgap.api.arguments import public_function
from modgap.distortion.encoders import FeatureRequest
from modgap.distortion.measurement import DistortionRequest
from modgap.distortion.measurement import measure_distortion as measure_encoders
from modgap.distortion.report import DistortionResult
from modgap.errors import Progress
from modgap.forward.sample_request import SampleRequest
from modgap.training.run_folder import Run


@public_function
def measure_distortion(
    source: str,
    runs: Sequence[str | Run] = (),
    *,
    surrogates: Sequence[str] = (),
    others: Sequence[str] = (),
    probes: Sequence[str] = ("linear",),
    layers: Sequence[str] = ("output",),
    limit: int | None = 5000,
    input_size: int | None = None,
    device: str = "auto",
    seed: int = 0,
    weights: str | None = None,
    progress: Progress | None = None,
) -> DistortionResult:
    """Measure what fine-tuning did to a source's knowledge, as `modgap distortion` does.

    Args:
        source: Name of the source, as for `modgap.open_source`.
        runs: Runs that started from the source, or their folders; FOLDER@EPOCH for an epoch that a run kept.
        surrogates: Names of labeled data of the source's modality; empty for the source's default surrogate.
        others: Names of further sources of the same modality, such as the `random:` control.
        probes: Names of the probes; encoders are compared by the first.
        layers: Names or patterns of the layers whose similarity is measured.
        limit: Largest number of samples of a surrogate; None for all.
        input_size: Height and width of the source's input in pixels; None for the source's default.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of the samples that probes choose their hyperparameters on. Folds and the samples of a surrogate do
            not depend on it.
        weights: File or folder to take the source's weights from; None for the source's default weights.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        The result, which holds the measurements of all encoders on each surrogate. A lower probe error means that more
        knowledge is left. It prints as the command does, and `.to_frame()`, `.to_dict()` and `.plot()` convert it.

    Raises:
        UsageError: If a name, an option or a combination is unknown.
        InputError: If data or weights are missing or do not fit.

    Example:
        >>> result = measure_distortion("vit-fashion", surrogates=["digits"], others=["random:vit-fashion"], limit=300)
        >>> result.to_frame()["encoder"].tolist()
        ['vit-fashion untouched', 'random:vit-fashion untouched']
        >>> untouched, control = result["digits"].encoders
        >>> untouched.first_probe.value < control.first_probe.value
        True
    """
    samples = SampleRequest(limit=limit, input_size=input_size, device=device, seed=seed)
    request = DistortionRequest(features=FeatureRequest(samples, layers=tuple(layers)), probes=tuple(probes))
    start = time.perf_counter()
    folders = [str(run.folder) if isinstance(run, Run) else run for run in runs]
    results = measure_encoders(source, surrogates, folders, request, others=others, weights=weights, progress=progress)
    return DistortionResult(source, tuple(results), request, time.perf_counter() - start)
