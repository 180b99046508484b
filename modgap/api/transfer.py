"""`modgap.transfer`: from data to a model in one call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modgap.api.arguments import public_function
from modgap.api.opening import target_request
from modgap.errors import Progress
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.race.result import TransferResult
from modgap.race.steps import read_steps
from modgap.race.transfer import RaceRequest, run_race
from modgap.targets import CustomData


@public_function
def transfer(
    target: str | Path | tuple[Any, Any],
    out: str | Path,
    *,
    minutes: float = 2.0,
    sources: Sequence[str] = (),
    steps: str | Path | None = None,
    limit: int | None = None,
    device: str = "auto",
    seed: int = 0,
    jobs: int | None = None,
    resume: bool = False,
    custom_data: CustomData | Mapping[str, str] | None = None,
    data_dir: str | Path | None = None,
    pseudo_classes: int | None = None,
    progress: Progress | None = None,
) -> TransferResult:
    """Find the best model for a target within some minutes, and test it once, as `modgap transfer` does.

    A test split is put aside first. On the other samples, baselines of the target's field, linear probes of sources and
    of networks with random weights, and trainings of the best sources at several rates are compared on folds that keep
    groups. The simplest model within one standard error of the lowest error is fitted to the training samples, and
    tested once, beside the best model of each other kind.

    Args:
        target: Name or path of the target, or a pair (x, y) of arrays, as for `modgap.open_target`.
        out: Folder of the model; a new one or, with `resume`, that of a transfer with the same arguments.
        minutes: Minutes of the comparison. The final fits come after it, and about how long they take is told before.
            With 0 only the quick baselines are compared.
        sources: Names of the sources; none for those on this machine with an open license and without near copies.
        steps: File transfer.json of an earlier transfer, whose steps are repeated exactly; None to choose by time.
        limit: Largest number of samples of each split; None for all.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of every random draw.
        jobs: Number of processes on this machine, of which 1 runs one step after the other in this process; None for
            one process on each core.
        resume: True to continue an interrupted transfer, or a finished one with more minutes.
        custom_data: Description of custom data, or its fields as a mapping such as `{"label_column": "rhythm"}`.
        data_dir: Data directory that holds the files of the target's manifest; None for the default one.
        pseudo_classes: Number of clusters that serve as the classes of a regression target.
        progress: Called with the name of a stage and the share of its work done since the last call.

    Returns:
        The result: what to use, its test error, and everything that was tried. Predict with
        `modgap.load_run(result.folder)`.

    Raises:
        UsageError: If an argument is not possible, or the folder has other files.
        InputError: If data is missing, or no model could be fitted.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import modgap
        >>> with TemporaryDirectory() as folder:
        ...     result = modgap.transfer("wine", f"{folder}/best", minutes=0, jobs=1)
        ...     model = modgap.load_run(result.folder)
        >>> result.run.record["method"], result.run.record["result"]["metric"]
        ('baseline:extra-trees', '0-1 error %')
    """
    request = RaceRequest(
        target_request(target, custom_data, data_dir, pseudo_classes),
        minutes,
        tuple(sources),
        SampleRequest(limit=limit, seed=seed, device=device),
        () if steps is None else tuple(read_steps(Path(steps))),
    )
    folder = Path(out)
    race = run_race(request, folder, Backend(jobs), resume=resume, progress=progress)
    result = TransferResult(race, folder)
    result.write(folder)
    return result
