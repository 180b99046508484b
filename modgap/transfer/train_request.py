"""A request to train a model, and the settings of the run in its record."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from modgap.forward.sample_request import SampleRequest
from modgap.storage.algorithms import algorithm_versions
from modgap.storage.cache import cache_key
from modgap.targets import CustomData
from modgap.transfer.benchmark_recipe import conversion_record
from modgap.transfer.recipe import Recipe
from modgap.transfer.surrogate import Surrogate
from modgap.transfer.trained_inputs import inputs_record
from modgap.transfer.training_data import TargetData
from modgap.version import installed_version

__all__ = ["TrainRequest", "settings_record"]


@dataclass(frozen=True)
class TrainRequest:
    """A request to train a model.

    Attributes:
        method: Name of the method.
        source: Name of the source, as for `modgap.sources.open_source`.
        target: Name or path of the target, as for `modgap.targets.open_target`.
        overrides: Settings of the recipe as KEY=VALUE.
        protocol: `validation` or `orca`, see `modgap.transfer.training_data.read_target_data`.
        samples: Number of samples of each split, input size, device, and the seed of everything random. Its split,
            representation, dtype and batch size do not apply, because the protocol and the recipe decide them.
        weights: File or folder with the source's weights; None for the source's default weights.
        custom_data: Description of custom data: kind, label column, groups and so on.
        data_dir: Data directory of the target; None for the registered one.
        pseudo_classes: Number of clusters of the values of a regression target; None for the manifest's number.
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
    pseudo_classes: int | None = None

    def __post_init__(self) -> None:
        """Raise if a field of the samples is set that does not apply."""
        self.samples.refuse_changes("split", "representation", "dtype", "batch_size", purpose="training")


def settings_record(
    request: TrainRequest,
    recipe: Recipe,
    data: TargetData,
    source: Mapping[str, Any],
    target: Mapping[str, Any],
    surrogate: Surrogate | None = None,
) -> dict[str, Any]:
    """Return the settings of a run for its record; a resumed run must have the same.

    Args:
        request: The request.
        recipe: All settings.
        data: The target's data.
        source: Fingerprint of the source.
        target: Fingerprint of the target.
        surrogate: The surrogate of the stages; None if they need none.
    """
    return {
        "method": request.method,
        "source": request.source,
        "target": request.target,
        "protocol": request.protocol,
        "seed": request.samples.seed,
        "limit": request.samples.limit,
        "input_size": request.samples.input_size,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "recipe_conversion": conversion_record(data.target.manifest),
        "samples": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "inputs": data.transform.to_dict(),
        "data": inputs_record(data),
        "output": {"task": data.output.task, "shape": list(data.output.shape), **_standardization_record(data)},
        "provenance": {
            "modgap": installed_version(),
            "algorithms": algorithm_versions("reading", "inference", "training"),
            "torch": torch.__version__,
            "source": dict(source),
            "target": {"manifest": cache_key(target["manifest"]), "files": target["files"]},
            "surrogate": None if surrogate is None else _surrogate_record(surrogate),
        },
        "environment": _environment(request),
    }


def _surrogate_record(surrogate: Surrogate) -> dict[str, Any]:
    """Return what the surrogate's samples are, without the settings that stand elsewhere in the record."""
    return {name: value for name, value in surrogate.provenance.items() if name not in ("seed", "limit")}


def _environment(request: TrainRequest) -> dict[str, Any]:
    """Return what may differ when a run is resumed elsewhere, for the record."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": request.samples.device,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
    }


def _standardization_record(data: TargetData) -> dict[str, list[float]]:
    """Return the mean and sd that turn outputs into the target's unit; empty if the trainer did not standardize."""
    if data.y_standardization is None:
        return {}
    mean, sd = data.y_standardization
    return {"mean": mean.tolist(), "sd": sd.tolist()}
