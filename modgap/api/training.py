"""`modgap.train`: a source transferred to a target."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from modgap.api.arguments import public_function
from modgap.api.opening import target_request
from modgap.errors import Progress, UsageError
from modgap.forward.sample_request import SampleRequest
from modgap.jobs import Backend
from modgap.targets import CustomData
from modgap.training.method import EpochCallback
from modgap.training.run_folder import Run
from modgap.training.sweep import Sweep, run_sweep
from modgap.training.train import train as run_training
from modgap.training.train_request import TrainRequest
from modgap.training.training_data import Protocol


@public_function
def train(
    method: str,
    source: str | None,
    target: str | Path | tuple[Any, Any],
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Sequence[Any] | str] | None = None,
    trials: int | None = None,
    sampler: Literal["random", "optuna"] = "random",
    protocol: Protocol = "validation",
    limit: int | None = None,
    input_size: int | None = None,
    device: str = "auto",
    seed: int = 0,
    jobs: int | None = None,
    resume: bool = False,
    weights: str | None = None,
    custom_data: CustomData | Mapping[str, str] | None = None,
    data_dir: str | Path | None = None,
    pseudo_classes: int | None = None,
    progress: Progress | None = None,
    on_epoch_end: EpochCallback | None = None,
) -> Run:
    """Transfer a source to a target, as `modgap train` does, and test the result once.

    Args:
        method: Name of the method, as `modgap methods` lists it; `linear-probe` for a linear model on the features of
            the source; or `baseline` for the best model of the target's own field, `baseline:NAME` for one of them.
        source: Name of the source, as for `modgap.open_source`. None for a baseline. A linear probe can have several,
            with commas between them and `raw` for the values of the samples, or `all`.
        target: Name or path of the target, or a pair (x, y) of arrays, as for `modgap.open_target`.
        out: Run folder to write, which must be new unless `resume` is True.
        settings: Settings that override the recipe, such as `{"stage1.epochs": 5}`.
        sweep: Values of settings to try, such as `{"stage2.learning_rate": [1e-4, 1e-3]}`. The run with the lowest
            validation error is tested. With Optuna, a text such as `"1e-5:1e-2"` is a range.
        trials: Number of combinations that are tried; None for all. Optuna needs a number.
        sampler: `random` draws these combinations at random, and `optuna` proposes them from the errors so far.
        protocol: `validation` chooses the epoch on a validation split; `orca` chooses it on the test split; `labeled`
            trains on the validation split too, and chooses nothing (`stage2.choose` must be `last`).
        limit: Largest number of samples of each split, drawn in proportion to the classes; None for all.
        input_size: Height and width of the source's input in pixels; None for the source's default.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of every random draw.
        jobs: Number of processes that run the trials of a sweep side by side, with one thread each. None to run them
            one after the other, with all threads.
        resume: True to continue from the newest checkpoint in the run folder.
        weights: File or folder to take the source's weights from; None for the source's default weights.
        custom_data: Description of custom data, or its fields as a mapping such as `{"label_column": "rhythm"}`.
        data_dir: Data directory that holds the files of the target's manifest; None for the default one.
        pseudo_classes: Number of clusters of the values of a regression target, which the first stage of a method may
            use as classes; None for the manifest's number.
        progress: Called with the name of a stage and the share of its work done since the last call.
        on_epoch_end: Called after each epoch with the line that metrics.jsonl has for it, a mapping with `stage`,
            `epoch`, `loss`, `learning_rate`, `validation_error` (in stage 2), `seconds` and others, and with the
            number of updates so far, `total_updates`. An error that it raises ends the training, and `resume=True`
            continues after that epoch.

    Returns:
        The run, with its folder and its record.

    Raises:
        UsageError: If the request is not possible.
        InputError: If data or weights are missing or do not fit, or the loss is not finite.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     run = train(
        ...         "finetune", "vit-fashion", "digits", f"{folder}/run", settings={"stage2.epochs": 1}, limit=60
        ...     )
        ...     run.weights.exists(), run.record["result"]["metric"], run.record["samples"]
        (True, '0-1 error %', {'train': 60, 'validation': 60, 'test': 60})
    """
    request = TrainRequest(
        method,
        source or "",
        target_request(target, custom_data, data_dir, pseudo_classes),
        tuple(f"{key}={_setting(value)}" for key, value in (settings or {}).items()),
        protocol=protocol,
        samples=SampleRequest(limit=limit, seed=seed, input_size=input_size, device=device),
        weights=weights,
    )
    if sweep is None and trials is None and sampler == "random":
        if jobs is not None:
            raise UsageError("`jobs` runs the trials of a sweep side by side. Pass `sweep`, or leave `jobs` out.")
        run = run_training(request, Path(out), resume=resume, progress=progress, on_epoch_end=on_epoch_end)
    else:
        backend = None if jobs is None else Backend(jobs)
        values = {
            key: (values,) if isinstance(values, str) else tuple(map(_setting, values))
            for key, values in (sweep or {}).items()
        }
        run = run_sweep(
            request,
            Path(out),
            Sweep(values, trials, sampler),
            backend=backend,
            resume=resume,
            progress=progress,
            on_epoch_end=on_epoch_end,
        )
    return run


def _setting(value: object) -> str:
    """Return the value of a setting as TOML has it, which knows lists and no tuples."""
    return str(list(value) if isinstance(value, tuple) else value)
