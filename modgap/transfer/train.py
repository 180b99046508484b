"""From names to a trained model: `modgap train`."""

import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from modgap import __version__
from modgap.bootstrap import bootstrap_interval
from modgap.errors import UsageError
from modgap.forward.batched_inference import choose_device
from modgap.forward.sample_request import SampleRequest
from modgap.models import TargetModel, target_model
from modgap.sources import ImageInput, Source, open_source
from modgap.storage.cache import cache_key
from modgap.targets import CustomData, open_target
from modgap.transfer.batches import BatchFeed, chunks
from modgap.transfer.checkpoint import Position, write_tensors
from modgap.transfer.evaluation import Evaluator
from modgap.transfer.loop import Progress, TrainingLoop, run_training_loop
from modgap.transfer.method import Method
from modgap.transfer.methods import get_method
from modgap.transfer.processes import Processes, current_processes
from modgap.transfer.recipe import Recipe, choose_route, find_unused_settings, resolve_recipe
from modgap.transfer.run_folder import RECORD, Run, check_folder, prepare_run, write_record
from modgap.transfer.run_log import summary_writer
from modgap.transfer.training_context import TrainingContext
from modgap.transfer.training_data import TargetData, read_target_data

__all__ = ["TrainRequest", "build_model", "train"]

STATISTICS_BATCH = 64
STATISTICS_SAMPLES = 2000
RESAMPLES = 1000

log = logging.getLogger("modgap")


@dataclass(frozen=True)
class TrainRequest:
    """What is to be trained, and how.

    Attributes:
        method: Name of the method.
        source: As for `modgap.sources.open_source`.
        target: As for `modgap.targets.open_target`.
        overrides: Settings of the recipe as KEY=VALUE.
        protocol: `validation` or `orca`, see `modgap.transfer.training_data.read_target_data`.
        samples: How many samples of each split, at what size, on what device, and the seed of everything random. Its
            split, representation, dtype and batch size do not apply: the protocol and the recipe decide them.
        weights: File or folder that overrides where the source's weights come from.
        custom_data: Description of custom data: kind, label column, groups and so on.
        data_dir: Folder in which the target's files lie.
    """

    method: str
    source: str
    target: str
    overrides: tuple[str, ...] = ()
    protocol: Literal["validation", "orca"] = "validation"
    samples: SampleRequest = field(default_factory=SampleRequest)
    weights: str | None = None
    custom_data: CustomData = field(default_factory=CustomData)
    data_dir: Path | None = None

    def __post_init__(self) -> None:
        """Raise if a field of the samples is set that does not apply."""
        self.samples.refuse_changes("split", "representation", "dtype", "batch_size", purpose="training")


def train(
    request: TrainRequest,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> Run:
    """Train a model, test it once, and leave all in a folder.

    The folder then holds run.json (settings and result), metrics.jsonl (a line an epoch), model.safetensors (the
    chosen weights) and, of methods with a first stage, stage1.safetensors (the embedder after it).

    Args:
        request: What to train.
        folder: Where to; a new one, or with `resume` that of a run with the same settings.
        resume: Go on from the newest checkpoint. On the CPU this ends in the same bits as without interruption.
        progress: Called with a stage's name and the share of its work done since the last call.
        tensorboard: Also log for TensorBoard, to folder/tensorboard.

    Raises:
        UsageError: When the request cannot be.
        InputError: When data or weights are missing or do not fit, or the loss is no longer a number.
    """
    began, how, among = time.perf_counter(), get_method(request.method), current_processes(request.samples.device)
    _check(folder, among, resume, tensorboard)
    target = open_target(request.target, custom_data=request.custom_data, data_dir=request.data_dir)
    recipe = resolve_recipe(target.manifest, how.stage1_defaults(target.manifest), request.overrides)
    _say_unused(how, request.overrides)
    handle = open_source(request.source, weights=request.weights)
    source = handle.load(request.samples.input_size, head=False)
    recipe = choose_route(recipe, kinks=source.convolutional)
    size = source.input.size if isinstance(source.input, ImageInput) else None
    data = read_target_data(
        target, protocol=request.protocol, limit=request.samples.limit, seed=request.samples.seed, size=size
    )
    if among.size > min(len(data.validation), len(data.test)):
        raise UsageError(f"expected a validation and a test sample for each of {among.size} processes; start fewer")
    settings = _settings(request, recipe, data, handle.fingerprint(), target.fingerprint)
    run = prepare_run(folder, settings, resume=resume or among.rank > 0)
    if run.finished:
        return run
    loop = _loop(request, how, recipe, data, source, among, run.folder, progress, tensorboard)
    # The folder is the run's only once nothing is missing any more, and all processes have looked at it.
    among.barrier()
    if among.rank == 0:
        write_record(run.folder, run.record)
    result = _result(loop, data, request, run_training_loop(loop))
    if among.rank == 0:
        write_tensors(run.weights, loop.model.state_dict())
        seconds = {"seconds": round(time.perf_counter() - began, 1)}
        write_record(run.folder, {**run.record, "result": result | seconds})
        _tidy(run.folder)
    return Run(run.folder, {**run.record, "result": result})


def _check(folder: Path, among: Processes, resume: bool, tensorboard: bool) -> None:
    """Refuse what cannot be before anything is loaded; other processes leave the folder to the first."""
    if among.rank == 0:
        check_folder(folder, resume=resume)
    if tensorboard:
        summary_writer()


def _say_unused(how: Method, overrides: Sequence[str]) -> None:
    """One set of settings may serve for several methods, so those of others are said, not refused."""
    stages, objectives = {stage.recipe_section for stage in how.stages}, {stage.objective for stage in how.stages}
    if unused := find_unused_settings(overrides, stages, objectives):
        log.warning("method %s does not look at %s", how.name, ", ".join(unused))


def build_model(
    source: Source, data: TargetData, recipe: Recipe, how: Method, *, seed: int, asked: bool = False
) -> TargetModel:
    """The untrained model of a method.

    Args:
        source: The source.
        data: The target.
        recipe: Its settings; the sequence length counts for sources of text alone, unless the user asked for it.
        how: The method.
        seed: Of all start values.
        asked: Whether the sequence length is the user's own wish.
    """
    length = recipe.target_sequence_length
    if source.input.kind != "text" and not asked:
        length = None
    elif length is not None and not asked:
        length = min(length, getattr(source.input, "max_tokens", length))
    sample = data.transform.pieces(data.table.samples[int(data.train[0])])[0]
    model = target_model(
        source,
        sample,
        data.output,
        length=length,
        embedder_start=how.embedder_start,
        pretrained_encoder=how.pretrained_encoder,
        seed=seed,
    )
    _set_statistics(model.embedder, data)
    return model


def _set_statistics(embedder: nn.Module, data: TargetData) -> None:
    """Running statistics of a new stem's batch normalization from training samples, for stage 1 goes by them."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in embedder.modules()):
        return
    rows = data.train[:: max(1, len(data.train) // STATISTICS_SAMPLES)]
    dtype, cpu = torch.float32, torch.device("cpu")
    batches = (
        data.to_batch([data.transform.pieces(data.table.samples[int(row)])[0] for row in each], cpu, dtype)
        for each in chunks(rows, STATISTICS_BATCH)
    )
    torch.optim.swa_utils.update_bn(batches, embedder)


def _loop(
    request: TrainRequest, how: Method, recipe: Recipe, data: TargetData, source: Source, among: Processes,
    folder: Path, progress: Progress | None, tensorboard: bool,
) -> TrainingLoop:  # fmt: skip
    device = choose_device(request.samples.device) if among.size == 1 else torch.device(among.device)
    dtype = torch.float64 if recipe.precision == "float64" else torch.float32
    autocast = torch.bfloat16 if recipe.precision == "bfloat16" else None
    asked = any(text.startswith("target_sequence_length") for text in request.overrides)
    model = build_model(source, data, recipe, how, seed=request.samples.seed, asked=asked)
    model = model.to(device=device, dtype=dtype)
    if recipe.gradient_checkpointing:
        _checkpoint_gradients(model.encoder)
    stages = tuple(
        stage for stage in how.stages if getattr(getattr(recipe, stage.recipe_section), stage.epochs_setting)
    )
    around = TrainingContext(
        source, request.source, model, data, recipe, request.samples.seed, among, device, dtype, autocast
    )  # fmt: skip
    if not (folder / RECORD).exists():
        around.check_requirements(stages)
    return TrainingLoop(
        model=model,
        stages=stages,
        recipe=recipe,
        feed=BatchFeed(data, request.samples.seed, device, dtype, recipe.stage2.augmentation),
        evaluator=Evaluator(data, device, dtype, recipe.stage2.batch_size, among, autocast),
        training_step=around.training_step,
        folder=folder,
        seed=request.samples.seed,
        processes=among,
        progress=progress,
        board=folder / "tensorboard" if tensorboard else None,
    )


def _checkpoint_gradients(encoder: nn.Module) -> None:
    """Switch on whatever the source's library has for it."""
    names = ("set_grad_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable")
    switches = [
        next((own for name in names if callable(own := getattr(module, name, None))), None)
        for module in encoder.modules()
    ]
    for switch in filter(None, switches):
        switch()
    if not any(switches):
        log.warning("the source's library knows of no gradient checkpointing for it; going on without")


def _settings(
    request: TrainRequest, recipe: Recipe, data: TargetData, source: Mapping[str, Any], target: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "method": request.method,
        "source": request.source,
        "target": request.target,
        "protocol": request.protocol,
        "seed": request.samples.seed,
        "limit": request.samples.limit,
        "input_size": request.samples.input_size,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "samples": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "inputs": data.transform.to_dict(),
        "output": {"task": data.output.task, "shape": list(data.output.shape), **_own_scale(data)},
        "provenance": {
            "modgap": __version__,
            "torch": torch.__version__,
            "source": dict(source),
            "target": {"manifest": cache_key(target["manifest"]), "files": target["files"]},
        },
    }


def _own_scale(data: TargetData) -> dict[str, list[float]]:
    """Mean and sd that turn outputs into values of the target's unit, where the trainer chose them."""
    return (
        {}
        if data.y_standardization is None
        else {"mean": data.y_standardization[0].tolist(), "sd": data.y_standardization[1].tolist()}
    )


def _result(loop: TrainingLoop, data: TargetData, request: TrainRequest, end: Position) -> dict[str, Any]:
    """The test's metric with its 95 % interval, by groups where samples have them."""
    metric, (epoch, error) = loop.evaluator.metric(loop.model, data.test), _chosen(loop, data, end)
    groups = None if data.groups is None else data.groups[data.test]
    interval = bootstrap_interval(metric.weighted, len(metric), groups, resamples=RESAMPLES, seed=request.samples.seed)
    chosen = "the test itself, as ORCA does" if request.protocol == "orca" else "the validation split"
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "test": _finite(metric.compute()),
        "interval": [_finite(limit) for limit in interval],
        "left_out": metric.left_out(),
        "validation": error,
        "epoch": epoch,
        "chosen_by": chosen if loop.recipe.stage2.choose == "best" else "nothing: the last epoch's weights",
        "updates": end.total,
    }


def _chosen(loop: TrainingLoop, data: TargetData, end: Position) -> tuple[int | None, float | None]:
    """The epoch whose weights the model has, and its error on the validation split."""
    if end.best is None:
        return None, None
    if loop.recipe.stage2.choose == "best" or end.best.epoch == end.epoch:
        return end.best.epoch, end.best.error
    return end.epoch, _finite(loop.evaluator.error(loop.model, data.validation))


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _tidy(folder: Path) -> None:
    """What a finished run needs no more."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for path in folder.glob("best-*.safetensors"):
        path.unlink()
