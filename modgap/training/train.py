"""Train a model from the names of a method, a source and a target, as `modgap train` does."""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modgap.errors import InputError, Progress, UsageError, count, first_line, visible_name
from modgap.models import TargetModel, seeded_rng, target_model
from modgap.models.native_model import native_model
from modgap.process.resources import choose_device
from modgap.sources import Source
from modgap.storage.atomic_files import atomic_path
from modgap.storage.json_records import Record, plain_values
from modgap.targets import Manifest
from modgap.training.batches import BatchFeed, chunks
from modgap.training.checkpoint import (
    Position,
    RunFiles,
    latest_checkpoint,
    load_tensors,
    remove_checkpoints,
    write_tensors,
)
from modgap.training.constant import compare_with_constant
from modgap.training.evaluation import Evaluator, evaluate_metric, write_sample_errors
from modgap.training.fitted_run import fit_source_probe, is_fitted, train_fitted
from modgap.training.linear_probe import set_probe
from modgap.training.loop import run_training_loop, summary_writer
from modgap.training.method import EpochCallback, Method, Training
from modgap.training.methods import find_unused_settings, get_method
from modgap.training.native_inputs import NativeTransform
from modgap.training.placement import (
    Processes,
    check_precision,
    current_processes,
    enable_gradient_checkpointing,
    place,
    set_dropout,
)
from modgap.training.recipe import Recipe, benchmark_augmentation, conversion_record
from modgap.training.run_folder import (
    WEIGHTS,
    Run,
    best_file,
    exclusive_run,
    finish_run,
    open_run,
    prepare_run,
    write_record,
)
from modgap.training.train_request import TrainRequest, TrainSetup, set_up_run, set_up_training
from modgap.training.trained_inputs import write_inputs
from modgap.training.training_data import TargetData, classes_without_samples, stack_pieces

__all__ = ["TrainRequest", "Watch", "build_training", "train", "train_in_locked_folder", "train_in_memory"]

TRAINING = ("validation", "epoch", "chosen_by", "updates", "seconds")
"""Names of the values that a record has under `training`, between the end of the training and the test."""

MOST_NAMED = 5
"""Largest number of classes without training samples that a warning names."""

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
    on_epoch_end: EpochCallback | None = None,
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
        on_epoch_end: Callback that is called with the line of the log of each epoch, by the main process. If it raises,
            the training ends with that error, and can be resumed after that epoch.

    Raises:
        UsageError: When the request is invalid.
        InputError: When data or weights are missing or do not match, or the loss becomes NaN or infinite.
    """
    if is_fitted(request.method):
        arguments = {"tensorboard": tensorboard, "on_epoch_end": on_epoch_end}
        if used := [name for name, value in arguments.items() if value]:
            raise UsageError(f"`{used[0]}` logs epochs, and this method has none. Leave it out.")
        return train_fitted(request, folder, resume=resume, progress=progress)
    if not request.source:
        raise UsageError("The method needs a source. Pass `source`, such as efficientnet-lite0.")
    processes = current_processes(request.samples.device)
    # The other processes leave the folder to the main one.
    with exclusive_run(folder, resume=resume) if processes.is_main else contextlib.nullcontext():
        return train_in_locked_folder(
            request,
            folder,
            processes,
            resume=resume,
            progress=progress,
            on_epoch_end=on_epoch_end,
            tensorboard=tensorboard,
        )


def train_in_locked_folder(
    request: TrainRequest,
    folder: Path,
    processes: Processes | None = None,
    *,
    resume: bool = True,
    progress: Progress | None = None,
    on_epoch_end: EpochCallback | None = None,
    tensorboard: bool = False,
    tests: bool = True,
) -> Run:
    """Train a model in a folder that the caller has locked, or continue its run, and test it.

    Args:
        request: What to train.
        folder: Folder of the run.
        processes: Processes that train together; None for one.
        resume: As in `train`.
        progress: As in `train`.
        on_epoch_end: As in `train`.
        tensorboard: As in `train`.
        tests: False to leave the test samples alone, so that the record has the validation error under `training`, and
            no result. Another call then tests the model.
    """
    start = time.perf_counter()
    processes = processes or Processes()
    method = get_method(request.method)
    if tensorboard:
        # Called for its error alone, which is raised before any data is read.
        summary_writer()
    source, setup, settings = set_up_run(request)
    if unused := find_unused_settings(request.overrides, method):
        # This is no error, because several methods may share settings.
        log.warning("Method %s ignores these settings: %s.", method.name, ", ".join(unused))
    data = setup.data
    _announce_conversion(data.target.manifest)
    _check_sample_counts(data, processes)
    _warn_about_missing_classes(data)
    run = prepare_run(folder, settings, resume=resume or not processes.is_main)
    if run.finished or (run.trained and not tests):
        return run
    training = build_training(
        request,
        source,
        setup,
        RunFiles(run.folder, writes=processes.is_main),
        processes=processes,
        progress=progress,
        tensorboard_folder=run.folder / "tensorboard" if tensorboard else None,
        on_epoch_end=on_epoch_end,
    )
    # Nothing is written before all requirements are met and all processes have looked at the folder.
    processes.barrier()
    if processes.is_main:
        _reopen_extended_run(run)
        write_record(run.folder, run.record)
    processes.barrier()
    chosen = _recorded_training(run, training) if run.trained else _run_training(training, request, run.folder)
    if not tests:
        record = {**run.record, "training": {**chosen, "seconds": round(time.perf_counter() - start, 1)}}
        write_record(run.folder, record)
        _remove_intermediate_files(run.folder, keeps_checkpoint=False, keeps_best=False)
        return Run(run.folder, record)
    chosen["seconds"] = chosen.get("seconds", 0) + time.perf_counter() - start
    return _test(run, training, request, chosen)


def _test(run: Run, training: Training, request: TrainRequest, chosen: Record) -> Run:
    """Test a trained model, write the result to the run's folder, and remove files that are needed no more.

    Args:
        run: The run, whose record has no result.
        training: The training, whose model has the chosen weights.
        request: What was trained.
        chosen: Values of TRAINING, with `seconds` of the whole training, which become part of the result.
    """
    data = training.data
    metric = training.evaluator.metric(training.model, data.test)
    seed = request.samples.seed
    tested = plain_values({**evaluate_metric(metric, data, seed), **compare_with_constant(metric, data, seed)})
    result = {**tested, **{name: value for name, value in chosen.items() if name != "seconds"}}
    record = {name: value for name, value in run.record.items() if name != "training"}
    if not training.processes.is_main:
        return finish_run(run.folder, record, result, None)
    write_sample_errors(run.folder, metric, data, f"{request.method} {request.source}")
    finished = finish_run(run.folder, record, result, chosen["seconds"])
    # model.safetensors has the merged weights of an adapter, from which no training can continue.
    keeps_best = training.recipe.keep_checkpoint and training.method.adapter is not None
    _remove_intermediate_files(run.folder, training.recipe.keep_checkpoint, keeps_best)
    return finished


def _run_training(training: Training, request: TrainRequest, folder: Path) -> dict[str, Any]:
    """Train, write what predictions need, and return the values of TRAINING but for `seconds`."""
    end = run_training_loop(training)
    training.merge_adapter(training.model)
    if training.processes.is_main:
        write_inputs(folder, training.data)
        write_tensors(folder / WEIGHTS, training.model.state_dict())
    epoch, validation_error = _chosen_epoch(training, end)
    chosen_by = "lowest test error, as in ORCA" if request.protocol == "orca" else "lowest validation error"
    return {
        "validation": plain_values(validation_error),
        "epoch": epoch,
        "chosen_by": chosen_by if training.recipe.stage2.choose == "best" else "last epoch",
        "updates": end.total_updates,
    }


def _recorded_training(run: Run, training: Training) -> dict[str, Any]:
    """Load the weights of a training that is complete but not tested, and return its values of TRAINING."""
    training.merge_adapter(training.model)
    try:
        training.model.load_state_dict(load_tensors(run.checked(run.weights)))
    except RuntimeError as error:
        raise InputError(f"{run.weights} is not a file of this model: {first_line(error)}.") from error
    return {name: run.record["training"].get(name) for name in TRAINING}


def _reopen_extended_run(run: Run) -> None:
    """Make a finished run in a folder an unfinished one with more epochs; other runs stay as they are.

    The weights of the best epoch so far become those to beat, and the record loses its result, which no longer holds.

    Args:
        run: The run as `prepare_run` returns it, with more epochs than its record on the disk.

    Raises:
        UsageError: When the folder has no checkpoint to continue from.
        InputError: When the record cannot be written.
    """
    if not run.extended:
        return
    stage = run.record["recipe"]["stage2"]
    before = run.record["extended_from"][-1]
    log.info("The run continues with %d epochs of stage 2 in place of %d.", stage["epochs"], before)
    if stage["decay_epochs"] == stage["epochs"]:
        log.info("The decay of the learning rate now ends with the last of these epochs.")
    if not open_run(run.folder).finished:
        return
    checkpoint = latest_checkpoint(run.folder)
    if checkpoint is None:
        raise UsageError(
            f"The run in {run.folder} is finished and has no checkpoint, so it cannot have more epochs. "
            "Train again with another `out`."
        )
    best = checkpoint[0].best
    if best is not None and stage["choose"] == "best" and not best_file(run.folder, best.epoch).exists():
        with atomic_path(best_file(run.folder, best.epoch)) as temporary:
            shutil.copyfile(run.checked(run.weights), temporary)
    write_record(run.folder, run.record)


def _check_sample_counts(data: TargetData, processes: Processes) -> None:
    """Raise an error if there are more processes than validation or test samples; a split without samples is unused."""
    smallest = min((len(rows) for rows in (data.validation, data.test) if len(rows)), default=processes.size)
    if processes.size > smallest:
        raise UsageError(
            f"There are {processes.size} processes, {len(data.validation)} validation samples and {len(data.test)} "
            f"test samples. Each process needs one of each. Start at most {smallest} processes."
        )


def _warn_about_missing_classes(data: TargetData) -> None:
    """Warn about classes that the model cannot learn, because no training sample has them."""
    if missing := classes_without_samples(data):
        more = f" and {len(missing) - MOST_NAMED:,} more" if len(missing) > MOST_NAMED else ""
        log.warning(
            "%s no training samples, so the model never learns to predict %s: %s%s.",
            count(len(missing), "class has", "classes have"),
            "it" if len(missing) == 1 else "them",
            ", ".join(visible_name(name) for name in missing[:MOST_NAMED]),
            more,
        )


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


def _chosen_epoch(training: Training, end: Position) -> tuple[int | None, float | None]:
    """Return the epoch whose weights the model has, and its validation error; None where either is not known."""
    if not len(training.data.validation):
        return end.epoch or None, None
    if end.best is None:
        return None, None
    if training.recipe.stage2.choose == "best" or end.best.epoch == end.epoch:
        return end.best.epoch, end.best.error
    return end.epoch, training.evaluator.error(training.model, training.data.validation)


def _remove_intermediate_files(folder: Path, keeps_checkpoint: bool, keeps_best: bool) -> None:
    """Remove what a finished run does not need. Checkpoint and best weights stay where more epochs may follow."""
    remove_checkpoints(folder, keep=int(keeps_checkpoint))
    for path in folder.glob("best-*.safetensors"):
        if not keeps_best:
            path.unlink()


# Training in memory

Watch = Callable[[int, TargetModel, Evaluator], None]
"""A function of an epoch of stage 2, the model after it, and the evaluator of the target's metric."""


def train_in_memory(
    request: TrainRequest,
    source: Source,
    data: TargetData,
    epochs: Collection[int],
    watch: Watch,
    on_epoch_end: EpochCallback | None = None,
) -> None:
    """Train a model as `train` does, but write nothing, and let a function look at it after some epochs.

    The samples are those of `data`, so that a caller can train on one part of the labeled samples and measure on
    another. After the same number of epochs the model has the same bits as that of `train` on the same samples.

    Args:
        request: Method, settings and seed. Its target and its limit do not apply.
        source: The source, loaded without its head.
        data: The target, with the rows to train, to validate and to test on.
        epochs: Epochs of stage 2 after which `watch` is called.
        watch: Function of the epoch, the model and the evaluator.
        on_epoch_end: Callback that is called with the line of the log of each epoch; None for none.

    Raises:
        UsageError: When a setting is invalid.
        InputError: When a surrogate is missing, or the loss becomes NaN or infinite.
    """
    request = replace(request, overrides=(*request.overrides, f"stage2.keep_epochs={sorted(epochs)}"))
    files = RunFiles(watch=lambda epoch, model: watch(epoch, model, training.evaluator))
    setup = set_up_training(request, source, data)
    training = build_training(request, source, setup, files, on_epoch_end=on_epoch_end)
    run_training_loop(training)


# The model and everything around it


def build_model(
    source: Source, data: TargetData, recipe: Recipe, method: Method, *, seed: int, length_requested: bool = False
) -> TargetModel:
    """Build the untrained model of a method for the inputs and outputs of a target.

    Args:
        source: The source.
        data: The target. The shape of the inputs is that of the first training sample.
        recipe: Settings of the run. Its sequence length applies to sources of text alone, unless the user set it.
        method: The method.
        seed: Seed of all random start values.
        length_requested: True if the user set the sequence length.
    """
    piece = data.transform.pieces(data.table.samples[int(data.train[0])])[0]
    pretrained, length = method.pretrained_encoder, recipe.target_sequence_length
    if isinstance(data.transform, NativeTransform):
        model = native_model(source, torch.from_numpy(piece), data.output, pretrained=pretrained, seed=seed)
    else:
        if source.input.kind != "text" and not length_requested:
            length = None
        elif length is not None and not length_requested:
            length = min(length, getattr(source.input, "max_tokens", length))
        model = target_model(
            source,
            piece,
            data.output,
            length=length,
            embedder_start=method.embedder_start,
            pretrained_encoder=pretrained,
            seed=seed,
        )
    if recipe.dropout is not None:
        set_dropout(model, recipe.dropout)
    if not isinstance(data.transform, NativeTransform):
        _set_batch_statistics(model.embedder, data)
    return model


def _set_batch_statistics(embedder: nn.Module, data: TargetData) -> None:
    """Estimate the running statistics of a new stem's batch normalization, because stage 1 does not update them."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in embedder.modules()):
        return

    def load(rows: np.ndarray) -> Tensor:
        pieces = [data.transform.pieces(data.table.samples[int(row)])[0] for row in rows]
        return stack_pieces(pieces, torch.device("cpu"), torch.float32, rows.tolist())

    rows = data.train[:: max(1, len(data.train) // STATISTICS_SAMPLES)]
    torch.optim.swa_utils.update_bn(map(load, chunks(rows, STATISTICS_BATCH)), embedder)


def build_training(
    request: TrainRequest,
    source: Source,
    setup: TrainSetup,
    files: RunFiles,
    *,
    processes: Processes | None = None,
    progress: Progress | None = None,
    tensorboard_folder: Path | None = None,
    on_epoch_end: EpochCallback | None = None,
) -> Training:
    """Build the untrained model of a request on its device, and everything that its training needs.

    Args:
        request: The request.
        source: The source, without its head.
        setup: What `set_up_training` returns for it.
        files: Files of the run.
        processes: Processes that train together; None for one.
        progress: Callback that is called with a stage's name and the share done since the last call.
        tensorboard_folder: Folder of the TensorBoard log; None for no such log.
        on_epoch_end: Callback that is called with the line of the log of each epoch; None for none.
    """
    recipe, data, surrogate = setup
    method, seed = get_method(request.method), request.samples.seed
    processes = processes or Processes()
    device = choose_device(request.samples.device) if processes.size == 1 else torch.device(processes.device)
    check_precision(recipe.precision, device)
    dtype = torch.float64 if recipe.precision == "float64" else torch.float32
    autocast = torch.bfloat16 if recipe.precision == "bfloat16" else None
    length_requested = any(text.startswith("target_sequence_length") for text in request.overrides)
    model = build_model(source, data, recipe, method, seed=seed, length_requested=length_requested)
    if method.predictor_start == "probe" and files.latest_checkpoint() is None:
        probe = fit_source_probe(request.source, source, data, seed, request.samples.device)
        message = "The predictor starts from the linear probe (%s, cross-validated error %.4g)."
        log.info(message, probe.setting, probe.error)
        set_probe(model.predictor, *probe.parts)
    if method.adapter is not None:
        with seeded_rng(seed, "adapter"):
            method.adapter.add(model, recipe.stage2)
    model = place(model, device, dtype, convolutional=source.convolutional)
    if recipe.gradient_checkpointing:
        has_stage1 = any(stage.recipe_section == "stage1" for stage in method.stages_with_epochs(recipe))
        enable_gradient_checkpointing(model.encoder, has_stage1=has_stage1)
    return Training(
        method=method,
        recipe=recipe,
        source=source,
        data=data,
        surrogate=surrogate,
        model=model,
        seed=seed,
        feed=BatchFeed(data, seed, device, dtype, recipe.stage2.augmentation, recipe.loader_workers),
        evaluator=Evaluator(data, device, dtype, recipe.stage2.batch_size, processes, autocast, recipe.loader_workers),
        files=files,
        processes=processes,
        progress=progress,
        tensorboard_folder=tensorboard_folder,
        on_epoch_end=on_epoch_end,
    )
