"""The untrained model of a method, and the training loop around it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from modgap.forward.batched_inference import choose_device
from modgap.models import TargetModel, seeded_rng, target_model
from modgap.progress import Progress
from modgap.sources import Source
from modgap.transfer.batches import BatchFeed, chunks
from modgap.transfer.dropout import set_dropout
from modgap.transfer.evaluation import Evaluator
from modgap.transfer.gradient_checkpointing import enable_gradient_checkpointing
from modgap.transfer.input_transform import stack_pieces
from modgap.transfer.loop import TrainingLoop
from modgap.transfer.method import Method, Stage
from modgap.transfer.placement import place
from modgap.transfer.processes import Processes
from modgap.transfer.recipe import Recipe
from modgap.transfer.run_files import RunFiles
from modgap.transfer.surrogate import Surrogate
from modgap.transfer.train_request import TrainRequest
from modgap.transfer.training_context import TrainingContext
from modgap.transfer.training_data import TargetData

__all__ = ["build_loop", "build_model", "stages_with_epochs"]

STATISTICS_BATCH = 64
"""Batch size at which the running statistics of batch normalization are estimated."""
STATISTICS_SAMPLES = 2000
"""Approximate number of samples from which they are estimated."""


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
    return stack_pieces(pieces, torch.device("cpu"), torch.float32, rows.tolist())


def build_loop(
    request: TrainRequest,
    method: Method,
    recipe: Recipe,
    data: TargetData,
    source: Source,
    surrogate: Surrogate | None,
    files: RunFiles,
    *,
    processes: Processes | None = None,
    progress: Progress | None = None,
    tensorboard_folder: Path | None = None,
) -> TrainingLoop:
    """Build the untrained model of a request on its device, and everything that its training needs.

    Args:
        request: The request, for its seed, its device and the settings that the user set.
        method: The method.
        recipe: Settings of the run.
        data: The target.
        source: The source.
        surrogate: The surrogate of the stages; None if they need none.
        files: Files of the run.
        processes: Processes that train together; None for one.
        progress: Callback that is called with a stage's name and the share done since the last call.
        tensorboard_folder: Folder of the TensorBoard log; None for no such log.
    """
    processes = processes or Processes()
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
        has_stage1 = any(stage.recipe_section == "stage1" for stage in stages_with_epochs(method, recipe))
        enable_gradient_checkpointing(model.encoder, has_stage1=has_stage1)
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
        stages=stages_with_epochs(method, recipe),
        recipe=recipe,
        feed=BatchFeed(data, seed, device, dtype, recipe.stage2.augmentation, recipe.loader_workers),
        evaluator=Evaluator(data, device, dtype, recipe.stage2.batch_size, processes, autocast, recipe.loader_workers),
        training_step=context.training_step,
        files=files,
        seed=seed,
        processes=processes,
        merge=None if method.adapter is None else method.adapter.merge,
        progress=progress,
        tensorboard_folder=tensorboard_folder,
    )


def stages_with_epochs(method: Method, recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of a method that have epochs."""
    return tuple(
        stage for stage in method.stages if getattr(getattr(recipe, stage.recipe_section), stage.epochs_setting) > 0
    )
