"""`modgap.features`: features and logits of a source on a target's samples, for use elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap.api.arguments import public_function
from modgap.api.opening import target_request
from modgap.errors import Progress, UsageError
from modgap.forward.inference_setup import LogitsRequest
from modgap.forward.sample_request import SampleRequest
from modgap.ranking.extraction import extract
from modgap.ranking.source_outputs import load_class_names, load_sample_numbers, load_source_outputs
from modgap.storage.atomic_files import atomic_path, writing
from modgap.storage.json_records import format_json, plain_values
from modgap.storage.paths import expand_user
from modgap.targets import CustomData, TargetRequest


@dataclass(frozen=True)
class SourceFeatures:
    """Features and logits of a source on n samples of a target.

    Attributes:
        features: Mean over the encoder's tokens, which the probes of `rank` and `train` see, float32, (n, D).
        logits: Outputs of the source's head, or of one fitted on labeled data of its modality, float32, (n, Z). None
            if it has none.
        labels: Class of each sample (n,), or 0/1 labels (n, K); clusters of the values of a regression target.
        values: Values of a regression target, (n, M). None for other targets.
        groups: Record, subject or other group of each sample, (n,). None if samples are independent.
        samples: Number of each sample among all of the target, (n,).
        target_classes: Names of the classes of the labels.
        source_classes: Names of the source's classes, one for each logit.
        provenance: Model, data, versions and settings.
    """

    features: np.ndarray
    logits: np.ndarray | None
    labels: np.ndarray
    values: np.ndarray | None
    groups: np.ndarray | None
    samples: np.ndarray
    target_classes: tuple[str, ...]
    source_classes: tuple[str, ...]
    provenance: Mapping[str, Any]

    def save(self, path: str | Path) -> None:
        """Write an .npz file, complete or not at all, with an array for each attribute that is not None.

        The provenance is the JSON text of the array `provenance`.

        Raises:
            UsageError: When the path does not end with .npz.
            InputError: When the file cannot be written.
        """
        file = check_features_file(path)
        names = {"target_classes": self.target_classes, "source_classes": self.source_classes}
        arrays: dict[str, Any] = {name: np.array(texts, dtype=str) for name, texts in names.items()}
        for name in ("features", "logits", "labels", "values", "groups", "samples"):
            if (array := getattr(self, name)) is not None:
                arrays[name] = array
        arrays["provenance"] = np.array(format_json(plain_values(dict(self.provenance))))
        with writing(file), atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)


def check_features_file(path: str | Path) -> Path:
    """Return the path of a file of features.

    Raises:
        UsageError: When it does not end with .npz.
    """
    file = expand_user(path)
    if file.suffix.lower() != ".npz":
        raise UsageError(f"{file} does not end with .npz. Pass for example features.npz.")
    return file


def compute_features(
    source: str, target: TargetRequest, request: LogitsRequest, progress: Progress | None = None
) -> SourceFeatures:
    """Compute the features of a source, or take them from the cache that rankings share.

    Args:
        source: Name of the source.
        target: The target.
        request: Samples, input size, precision and head.
        progress: Called with `features` and the share of the work done since the last call.

    Raises:
        InputError: If the source, the target or their combination cannot be used.
    """
    extracted = extract(source, target.open(), request, progress)
    outputs = load_source_outputs(extracted.key)
    source_classes, target_classes = load_class_names(extracted.key)
    return SourceFeatures(
        np.array(outputs.features),
        None if outputs.logits is None else np.array(outputs.logits),
        outputs.labels,
        outputs.values,
        outputs.groups,
        load_sample_numbers(extracted.key),
        tuple(target_classes),
        tuple(source_classes),
        extracted.provenance,
    )


@public_function
def features(
    source: str,
    target: str | Path | tuple[Any, Any],
    *,
    split: str | None = None,
    limit: int | None = None,
    input_size: int | None = None,
    representation: str | None = None,
    head: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    seed: int = 0,
    custom_data: CustomData | Mapping[str, str] | None = None,
    data_dir: str | Path | None = None,
    pseudo_classes: int | None = None,
    progress: Progress | None = None,
) -> SourceFeatures:
    """Compute features and logits of a source on a target's samples, or take them from the cache.

    Args:
        source: Name of the source, as for `modgap.open_source`.
        target: Name or path of the target, or a pair (x, y) of arrays, as for `modgap.open_target`.
        split: `train`, `val` or `test`; None for all samples.
        limit: Largest number of samples, drawn in proportion to the classes; None for all.
        input_size: Height and width of the source's input in pixels; None for the source's default.
        representation: How time series and audio are turned into input; None for the manifest's choice.
        head: `auto` for the source's own head, or else one fitted on labeled data of its modality, or else none;
            `own`, `none` or `probe:SURROGATE`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: Number of samples in a batch; None for an automatic choice.
        seed: Seed of the choice of samples.
        custom_data: Description of custom data, or its fields as a mapping such as `{"label_column": "rhythm"}`.
        data_dir: Data directory that holds the files of the target's manifest; None for the default one.
        pseudo_classes: Number of clusters of the values of a regression target; None for the manifest's number.
        progress: Called with `features` and the share of the work done since the last call.

    Returns:
        Features, logits, labels, groups and numbers of the samples, with `save(path)`.

    Raises:
        UsageError: If the request is not possible.
        InputError: If data or weights are missing or do not fit.

    Example:
        >>> computed = features("vit-fashion", "digits", limit=50)
        >>> computed.features.shape, computed.logits.shape, computed.labels.shape, computed.target_classes[:2]
        ((50, 96), (50, 10), (50,), ('0', '1'))
    """
    requested = target_request(target, custom_data, data_dir, pseudo_classes)
    samples = SampleRequest(split, limit, seed, input_size, representation, device=device, batch_size=batch_size)
    return compute_features(source, requested, LogitsRequest(samples, head=head), progress)
