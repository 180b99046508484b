"""Train a model from the names of a method, a source and a target, as `modgap train` does."""

import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modgap.errors import InputError, UsageError, first_line
from modgap.forward.batched_inference import choose_device
from modgap.models import TargetModel, seeded_rng, target_model
from modgap.progress import Progress
from modgap.sources import ImageInput, Source, open_source
from modgap.storage.json_records import plain_values
from modgap.targets import Manifest, Target, open_target
from modgap.transfer.batches import BatchFeed, chunks
from modgap.transfer.benchmark_recipe import benchmark_augmentation, conversion_record
from modgap.transfer.checkpoint import Position, load_tensors, remove_checkpoints, write_tensors
from modgap.transfer.dropout import set_dropout
from modgap.transfer.evaluation import Evaluator
from modgap.transfer.extension import reopen_extended_run
from modgap.transfer.final_test import evaluate_metric, write_sample_errors
from modgap.transfer.gradient_checkpointing import enable_gradient_checkpointing
from modgap.transfer.input_transform import stack_pieces
from modgap.transfer.loop import TrainingLoop, run_training_loop
from modgap.transfer.method import Method, Stage
from modgap.transfer.methods import get_method
from modgap.transfer.placement import place
from modgap.transfer.processes import Processes, current_processes
from modgap.transfer.recipe import Recipe, choose_route, find_unused_settings, resolve_recipe
from modgap.transfer.run_folder import WEIGHTS, Run, exclusive_run, prepare_run, write_record
from modgap.transfer.run_log import summary_writer
from modgap.transfer.stage_surrogate import open_stage_surrogate
from modgap.transfer.surrogate import Surrogate
from modgap.transfer.train_request import TrainRequest, settings_record
from modgap.transfer.trained_inputs import write_inputs
from modgap.transfer.training_context import TrainingContext
from modgap.transfer.training_data import TargetData, read_target_data

__all__ = ["TrainRequest", "build_model", "finish_trained_run", "train", "train_without_test"]

TRAINING = ("validation", "epoch", "chosen_by", "updates", "seconds")
"""Values of a record under `training`."""
STATISTICS_BATCH = 64
"""Batch size at which the running statistics of batch normalization are estimated."""
STATISTICS_SAMPLES = 2000
"""Approximate number of samples from which they are estimated."""

log = logging.getLogger("modgap")


def train(
    request: TrainRequest,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> Run:
    """Train a model, test it once, and write the results to a folder.

    Afterwards the folder contains run.json (settings and result), metrics.jsonl (one line per epoch),
    model.safetensors (the chosen weights), inputs.safetensors (values of the preprocessing, if there are any),
    samples.npz (the errors of the test samples, if the metric is a mean over samples) and, for methods with a first
    stage, stage1.safetensors (the embedder after that stage).

    Args:
        request: What to train.
        folder: Folder of the run; a new one or, with `resume`, that of a run with the same settings.
        resume: Continue from the newest checkpoint. On the CPU, a resumed run ends with the same bits as an
            uninterrupted one.
        progress: Callback that is called with a stage's name and the share of its work done since the last call.
        tensorboard: Also write a TensorBoard log to folder/tensorboard.

    Raises:
        UsageError: When the request is invalid.
        InputError: When data or weights are missing or do not match, or the loss becomes NaN or infinite.
    """
    processes = current_processes(request.samples.device)
    # The other processes leave the folder to the main one.
    with exclusive_run(folder, resume=resume) if processes.is_main else contextlib.nullcontext():
        return _train(request, folder, processes, resume, progress, tensorboard)


def train_without_test(request: TrainRequest, folder: Path, progress: Progress | None = None) -> Run:
    """Train a model as `train` does, in one process, but leave its test samples alone.

    An interrupted run in the folder is continued. The record has the validation error under `training`, and no result.
    """
    with exclusive_run(folder, resume=True):
        return _train(request, folder, Processes(), True, progress, tests=False)


def finish_trained_run(request: TrainRequest, folder: Path) -> Run:
    """Test the model of `train_without_test`, whose caller has locked the folder."""
    return _train(request, folder, Processes(), resume=True)


def _train(
    request: TrainRequest,
    folder: Path,
    processes: Processes,
    resume: bool,
    progress: Progress | None = None,
    tensorboard: bool = False,
    tests: bool = True,
) -> Run:
    start = time.perf_counter()
    method = get_method(request.method)
    if tensorboard:
        summary_writer()
    target = open_target(request.target, custom_data=request.custom_data, data_dir=request.data_dir)
    recipe = resolve_recipe(target.manifest, method.stage1_defaults(target.manifest), request.overrides)
    _warn_about_unused_settings(method, request.overrides)
    handle = open_source(request.source, weights=request.weights)
    source = handle.load(request.samples.input_size, head=False)
    _announce_conversion(target.manifest)
    recipe = choose_route(recipe, kinks=source.convolutional)
    data = _read_data(request, source, target)
    _check_sample_counts(data, processes)
    stages = _stages_with_epochs(method, recipe)
    surrogate = open_stage_surrogate(stages, recipe, source, request.source, request.samples.seed)
    settings = settings_record(request, recipe, data, handle.fingerprint(), target.fingerprint, surrogate)
    run = prepare_run(folder, settings, resume=resume or not processes.is_main)
    if run.finished or (run.trained and not tests):
        return run
    loop = _build_loop(request, method, recipe, data, source, surrogate, processes, run.folder, progress, tensorboard)
    # Nothing is written before all requirements are met and all processes have looked at the folder.
    processes.barrier()
    if processes.is_main:
        reopen_extended_run(run)
        write_record(run.folder, run.record)
    processes.barrier()
    training = _recorded_training(run, loop) if run.trained else _run_training(loop, data, request, run.folder)
    if not tests:
        record = {**run.record, "training": {**training, "seconds": round(time.perf_counter() - start, 1)}}
        write_record(run.folder, record)
        _remove_intermediate_files(run.folder, keeps_checkpoint=False, keeps_best=False)
        return Run(run.folder, record)
    metric = loop.evaluator.metric(loop.model, data.test)
    seconds = round(training.pop("seconds", 0) + time.perf_counter() - start, 1)
    result = {**plain_values(evaluate_metric(metric, data, request.samples.seed)), **training}
    record = {name: value for name, value in run.record.items() if name != "training"}
    if processes.is_main:
        write_sample_errors(run.folder, metric, data, f"{request.method} {request.source}")
        write_record(run.folder, {**record, "result": {**result, "seconds": seconds}})
        # model.safetensors has the merged weights of an adapter, from which no training can go on.
        keeps_best = recipe.keep_checkpoint and method.adapter is not None
        _remove_intermediate_files(run.folder, recipe.keep_checkpoint, keeps_best)
    return Run(run.folder, {**record, "result": result})


def _run_training(loop: TrainingLoop, data: TargetData, request: TrainRequest, folder: Path) -> dict[str, Any]:
    """Train, write what predictions need, and return the epoch whose weights are chosen, with its validation error."""
    end = run_training_loop(loop)
    if loop.merge is not None:
        loop.merge(loop.model)
    if loop.processes.is_main:
        write_inputs(folder, data)
        write_tensors(folder / WEIGHTS, loop.model.state_dict())
    epoch, validation_error = _chosen_epoch(loop, data, end)
    chosen_by = "lowest test error, as in ORCA" if request.protocol == "orca" else "lowest validation error"
    record: dict[str, Any] = plain_values(
        {
            "validation": validation_error,
            "epoch": epoch,
            "chosen_by": chosen_by if loop.recipe.stage2.choose == "best" else "last epoch",
            "updates": end.total_updates,
        }
    )
    return record


def _recorded_training(run: Run, loop: TrainingLoop) -> dict[str, Any]:
    """Load the weights of a complete training, and return what its record says of it."""
    if loop.merge is not None:
        loop.merge(loop.model)
    try:
        loop.model.load_state_dict(load_tensors(run.weights))
    except RuntimeError as error:
        raise InputError(f"{run.weights} is not a file of this model: {first_line(error)}.") from error
    return {name: run.record["training"].get(name) for name in TRAINING}


def _read_data(request: TrainRequest, source: Source, target: Target) -> TargetData:
    samples = request.samples
    size = source.input.size if isinstance(source.input, ImageInput) else None
    return read_target_data(target, protocol=request.protocol, limit=samples.limit, seed=samples.seed, size=size)


def _check_sample_counts(data: TargetData, processes: Processes) -> None:
    """Raise an error if there are more processes than validation or test samples."""
    smallest = min(len(data.validation), len(data.test))
    if processes.size > smallest:
        raise UsageError(
            f"There are {processes.size} processes, {len(data.validation)} validation samples and {len(data.test)} "
            f"test samples. Each process needs one of each. Start at most {smallest} processes."
        )


def _warn_about_unused_settings(method: Method, overrides: Sequence[str]) -> None:
    """Warn about settings that the method ignores; this is no error, because several methods may share settings."""
    sections = {stage.recipe_section for stage in method.stages}
    if unused := find_unused_settings(overrides, sections, method.objectives):
        log.warning("Method %s ignores these settings: %s.", method.name, ", ".join(unused))


def _announce_conversion(manifest: Manifest) -> None:
    """Log the settings of the target's recipe that are converted, and warn of what is not applied."""
    missing = benchmark_augmentation(manifest)[1]
    if missing:
        log.warning("The recipe of %s has an augmentation that modgap does not apply: %s.", manifest.name, missing)
    changes = conversion_record(manifest)
    if changes:
        texts = [f"{name} {value['recipe']:g} as {value['used']:g}" for name, value in changes.items()]
        log.info(
            "The recipe of %s adds the gradients of accumulated batches, and modgap averages them, so it uses %s.",
            manifest.name,
            " and ".join(texts),
        )


def build_model(
    source: Source, data: TargetData, recipe: Recipe, method: Method, *, seed: int, length_requested: bool = False
) -> TargetModel:
    """Build the untrained model of a method.

    Args:
        source: The source.
        data: The target.
        recipe: Settings of the run. Its sequence length applies to sources of text alone, unless the user set it.
        method: The method.
        seed: Seed of all random start values.
        length_requested: True if the user set the sequence length.
    """
    length = recipe.target_sequence_length
    if source.input.kind != "text" and not length_requested:
        length = None
    elif length is not None and not length_requested:
        length = min(length, getattr(source.input, "max_tokens", length))
    sample = data.transform.pieces(data.table.samples[int(data.train[0])])[0]
    model = target_model(
        source,
        sample,
        data.output,
        length=length,
        embedder_start=method.embedder_start,
        pretrained_encoder=method.pretrained_encoder,
        seed=seed,
    )
    if recipe.dropout is not None:
        set_dropout(model, recipe.dropout)
    _set_batch_statistics(model.embedder, data)
    return model


def _set_batch_statistics(embedder: nn.Module, data: TargetData) -> None:
    """Estimate the running statistics of a new stem's batch normalization, because stage 1 does not update them."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in embedder.modules()):
        return
    rows = data.train[:: max(1, len(data.train) // STATISTICS_SAMPLES)]
    batches = (_load_batch(data, chunk) for chunk in chunks(rows, STATISTICS_BATCH))
    torch.optim.swa_utils.update_bn(batches, embedder)


def _load_batch(data: TargetData, rows: np.ndarray) -> Tensor:
    """Load the first piece of each sample, on the CPU."""
    pieces = [data.transform.pieces(data.table.samples[int(row)])[0] for row in rows]
    return stack_pieces(pieces, torch.device("cpu"), torch.float32)


def _build_loop(
    request: TrainRequest,
    method: Method,
    recipe: Recipe,
    data: TargetData,
    source: Source,
    surrogate: Surrogate | None,
    processes: Processes,
    folder: Path,
    progress: Progress | None,
    tensorboard: bool,
) -> TrainingLoop:
    seed = request.samples.seed
    device = choose_device(request.samples.device) if processes.size == 1 else torch.device(processes.device)
    dtype = torch.float64 if recipe.precision == "float64" else torch.float32
    autocast = torch.bfloat16 if recipe.precision == "bfloat16" else None
    length_requested = any(text.startswith("target_sequence_length") for text in request.overrides)
    model = build_model(source, data, recipe, method, seed=seed, length_requested=length_requested)
    if method.adapter is not None:
        with seeded_rng(seed, "adapter"):
            method.adapter.add(model, recipe.stage2)
    model = place(model, device, dtype, convolutional=source.convolutional)
    if recipe.gradient_checkpointing:
        enable_gradient_checkpointing(model.encoder)
    context = TrainingContext(
        source=source,
        model=model,
        data=data,
        recipe=recipe,
        seed=seed,
        processes=processes,
        device=device,
        dtype=dtype,
        autocast=autocast,
        given_surrogate=surrogate,
    )
    return TrainingLoop(
        model=model,
        stages=_stages_with_epochs(method, recipe),
        recipe=recipe,
        feed=BatchFeed(data, seed, device, dtype, recipe.stage2.augmentation, recipe.loader_workers),
        evaluator=Evaluator(data, device, dtype, recipe.stage2.batch_size, processes, autocast, recipe.loader_workers),
        training_step=context.training_step,
        folder=folder,
        seed=seed,
        processes=processes,
        merge=None if method.adapter is None else method.adapter.merge,
        progress=progress,
        tensorboard_folder=folder / "tensorboard" if tensorboard else None,
    )


def _stages_with_epochs(method: Method, recipe: Recipe) -> tuple[Stage, ...]:
    return tuple(
        stage for stage in method.stages if getattr(getattr(recipe, stage.recipe_section), stage.epochs_setting) > 0
    )


def _chosen_epoch(loop: TrainingLoop, data: TargetData, end: Position) -> tuple[int | None, float | None]:
    """Return the epoch whose weights the model has, and its validation error."""
    if end.best is None:
        return None, None
    if loop.recipe.stage2.choose == "best" or end.best.epoch == end.epoch:
        return end.best.epoch, end.best.error
    return end.epoch, loop.evaluator.error(loop.model, data.validation)


def _remove_intermediate_files(folder: Path, keeps_checkpoint: bool, keeps_best: bool) -> None:
    """Remove what a finished run does not need; the newest checkpoint stays where more epochs may follow."""
    remove_checkpoints(folder, keep=int(keeps_checkpoint))
    for path in folder.glob("best-*.safetensors"):
        if not keeps_best:
            path.unlink()
