"""LoRA: embedder, predictor, and changes of low rank of the encoder's layers, by the package PEFT."""

import re

from torch import nn

from modgap.errors import UsageError
from modgap.models import TargetModel
from modgap.process.installed_packages import import_optional
from modgap.training.method import Adapter, Method, full_stage
from modgap.training.recipe import FullStage

MOST_NAMED = 8
"""Largest number of names of layers that a message lists."""


def add_low_rank_changes(model: TargetModel, settings: FullStage) -> None:
    """Give layers of the encoder a trainable change of low rank: W + alpha / rank * B A, where B starts at 0.

    So the model computes the same as before. The start of A comes from PyTorch's current random state.

    Args:
        model: The model, which is changed in place.
        settings: Settings of stage 2, with the rank, alpha and the names of the layers.

    Raises:
        UsageError: When PEFT is not installed, or no layer has one of the names.
    """
    peft = import_optional("peft", "The method lora needs the package PEFT", "lora")
    layers, targets = _layers(model.encoder), settings.lora_targets
    chosen = [name for name in layers if not targets or any(f".{name}".endswith(f".{target}") for target in targets)]
    if not chosen:
        endings = sorted({name.rpartition(".")[2] for name in layers})
        choices = ", ".join(endings[:MOST_NAMED]) or "no linear or convolutional layers"
        raise UsageError(
            f"No layer of the encoder is named {' or '.join(targets) or 'for lora'}. It has {choices}. "
            "Set stage2.lora_targets to some of them."
        )
    config = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="|".join(re.escape(name) for name in chosen),
    )
    peft.inject_adapter_in_model(config, model.encoder)


def _layers(encoder: nn.Module) -> list[str]:
    """Return the names of the layers that can have a change of low rank.

    Convolutions by groups have small matrices of their own. Layers inside `MultiheadAttention` are not called as
    modules.
    """
    from transformers.pytorch_utils import Conv1D

    attention = [name for name, module in encoder.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear | Conv1D | nn.Conv1d | nn.Conv2d) and getattr(module, "groups", 1) == 1
        if not any(name.startswith(f"{parent}.") for parent in attention)
    ]


def low_rank_parameters(model: TargetModel) -> list[str]:
    """Return the names of embedder, predictor, and the changes of low rank."""
    names = [name for name, _ in model.named_parameters()]
    return [name for name in names if not name.startswith("encoder.") or ".lora_" in name]


def merge_low_rank_changes(model: TargetModel) -> None:
    """Add the changes to the layers, in place, so that the encoder has the layers and names of the source again."""
    from peft.tuners.lora import LoraLayer

    for parent in list(model.encoder.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoraLayer):
                layer.merge()
                setattr(parent, name, layer.get_base_layer())


SETTINGS = ("stage2.lora_rank", "stage2.lora_alpha", "stage2.lora_targets")

METHOD = Method(
    name="lora",
    title="embedder and predictor are trained, and changes of low rank of the encoder's layers",
    reference="Hu et al. (2022), LoRA: Low-rank adaptation of large language models",
    stages=(full_stage(low_rank_parameters, holds_statistics=True),),
    adapter=Adapter("lora", add_low_rank_changes, merge_low_rank_changes, SETTINGS),
)
