"""Check of a source: shapes, determinism, composition of its parts, independence of samples, controls, refusals."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modgap.errors import UsageError
from modgap.sources import (
    Batch,
    HeadlessError,
    Input,
    Source,
    SourceHandle,
    SourceInfo,
    control_name,
    describe_source,
    open_control,
    open_source,
    prefix_plugins,
    source_infos,
)
from modgap.targets import SPLITS

__all__ = ["check_prefix", "check_source"]

SIDE = 64
"""Height and width of noise images for a source of images, in pixels."""
SECONDS = 1.0
"""Duration of noise for a source of sound of any length."""
TEXTS = ("a first text", "a second one, which is longer", "third")
TOLERANCE = 1e-3
"""Largest difference of outputs, relative to the largest output but at least 1."""


def check_source(name: str) -> None:
    """Check a source by its name. If a plug-in provides it, the package has to be installed.

    The rules are:

    - The source is listed, and its description is complete. Its near copies are other sources that are listed, and
      that do not name this source as their near copy. Its surrogate is the name of a target and of a split.
    - The handle has the name of the source. The fingerprint consists of plain values, and is the same for each call.
    - A model without a head raises `HeadlessError` where one is needed.
    - The head has as many class names as the description has classes.
    - The model gives one finite row of outputs for each sample. It is the same for each call, and does not depend on
      the other samples of the batch.
    - The features are finite rows of numbers.
    - Embedder, encoder and head together give the model's outputs, and the tokens have three axes.
    - If it has a control, `random:NAME` is the handle's name. The fingerprint and the outputs are the same for the same
      seed, and others for another seed and for the source. The numbers and classes of outputs are those of the source.

    Args:
        name: Name of the source, as for `modgap.open_source`.

    Raises:
        AssertionError: If the source breaks one of these rules.
        InputError: If its weights are missing.
    """
    infos = {info.name: info for info in source_infos()}
    assert name in infos, f"Source {name} is not listed. Expected describe() to return a SourceInfo."
    info = infos[name]
    _check_description(info)
    _check_near_copies(info, infos)
    found = open_source(name).name
    assert found == name, f"The handle of {name} has the name {found!r}. Expected that of the source."
    _check_model(name, info)


def check_prefix(prefix: str, argument: str) -> None:
    """Check the sources that a plug-in opens by a prefix, by one of them. The package has to be installed.

    The prefix is listed, with a title and the endings of its files. The source `PREFIX:ARGUMENT` follows the rules of
    `check_source` for handles, models and controls; the name of its handle is free, and that of its control begins with
    `random:`.

    Args:
        prefix: The prefix, without the colon, such as `onnx`.
        argument: Text after the colon that names a source, such as the path of a file.

    Raises:
        AssertionError: If the plug-in or the source breaks one of these rules.
        InputError: If files are missing.
    """
    plugin = prefix_plugins().get(prefix)
    assert plugin is not None, f"The prefix {prefix}: is not listed. Expected an entry point of modgap.source_prefixes."
    assert plugin.title.strip(), f"The title of the prefix {prefix}: is empty."
    dotted = all(suffix.startswith(".") and suffix.islower() for suffix in plugin.suffixes)
    assert dotted, f"The endings of the prefix {prefix}: are {plugin.suffixes}. Expected lower case after a dot."
    name = f"{prefix}:{argument}"
    _check_model(name, describe_source(name))


def _check_model(name: str, info: SourceInfo) -> None:
    """Check the handle, the model and the control of a source with this description."""
    handle = open_source(name)
    prints = [handle.fingerprint() for _ in range(2)]
    assert prints[0] == prints[1], f"The fingerprint of {name} differs between two calls."
    assert json.loads(json.dumps(prints[0])) == prints[0], f"The fingerprint of {name} is not made of plain values."
    if info.n_classes is None:
        _check_refusal(name)
    source = handle.load(None, head=info.n_classes is not None)
    _check_names(name, info, source)
    pieces = _noise(source.input)
    batch = source.input.batch(pieces, torch.device("cpu"))
    outputs = _run(source.model, batch)
    _check_rows(name, "outputs", outputs, len(pieces), info.n_classes)
    assert torch.equal(_run(source.model, batch), outputs), (
        f"The outputs of {name} differ between two calls. Expected load() to return a model in evaluation mode."
    )
    alone = torch.cat([_run(source.model, source.input.batch([piece], torch.device("cpu"))) for piece in pieces])
    assert _is_close(alone, outputs), f"The outputs of {name} for a sample depend on the other samples of its batch."
    _check_rows(name, "features", _run(source.features, batch), len(pieces), None)
    _check_parts(name, source, batch, outputs)
    _check_control(name, info, handle, batch, outputs)


def _check_control(name: str, info: SourceInfo, handle: SourceHandle, batch: Batch, outputs: Tensor) -> None:
    """Check the random-weights control of a source if it has one."""
    try:
        handles = [open_control(name, seed) for seed in (0, 0, 1)]
    except UsageError:
        return
    expected = control_name(handle.name)
    assert handles[0].name == expected, f"The control of {name} has the name {handles[0].name!r}. Expected {expected}."
    prints = [handle.fingerprint(), *(control.fingerprint() for control in handles)]
    assert prints[1] == prints[2], f"The fingerprint of the control of {name} differs for the same seed."
    different = prints[0] != prints[1] != prints[3] != prints[0]
    assert different, f"The fingerprints of {name} and of its controls of two seeds are not all different."
    sources = [control.load(None, head=info.n_classes is not None) for control in handles]
    for source in sources:
        _check_names(f"the control of {name}", info, source)
    rows = [_run(source.model, batch) for source in sources]
    assert rows[0].shape == outputs.shape, f"The control of {name} gives outputs of another shape than the source."
    assert torch.equal(rows[0], rows[1]), f"The outputs of the control of {name} differ for the same seed."
    differ = not (torch.equal(rows[0], rows[2]) or torch.equal(rows[0], outputs))
    assert differ, f"The control of {name} has the outputs of the source, or those of another seed."


def _check_near_copies(info: SourceInfo, infos: Mapping[str, SourceInfo]) -> None:
    """Check the near copies and the surrogate of a description."""
    for copy in info.near_copies:
        assert copy in infos, f"{copy}, a near copy of {info.name}, is not listed."
        mutual = copy == info.name or info.name in infos[copy].near_copies
        assert not mutual, (
            f"{info.name} and its near copy {copy} name each other. Expected one of them to name the other."
        )
    if info.surrogate is not None:
        two = isinstance(info.surrogate, tuple) and len(info.surrogate) == 2
        assert two, f"The surrogate of {info.name} is {info.surrogate!r}. Expected the name of a target and a split."
        split = info.surrogate[1]
        assert split in SPLITS, f"The surrogate of {info.name} has the split {split!r}. Expected {', '.join(SPLITS)}."


def _check_description(info: SourceInfo) -> None:
    """Check that the texts of a description are not empty, and its numbers are possible."""
    texts = {"title": info.title, "input": info.input, "license": info.license, "weights": info.weights}
    for field, text in texts.items():
        assert isinstance(text, str), f"The {field} of {info.name} is no text."
        assert text.strip(), f"The {field} of {info.name} is empty."
    assert info.parameters > 0, f"{info.name} has {info.parameters} parameters. Expected a positive number."
    assert info.n_classes is None or info.n_classes > 1, f"{info.name} has {info.n_classes} classes. Expected several."


def _check_refusal(name: str) -> None:
    """Check that a source without a head raises HeadlessError where one is needed."""
    try:
        open_source(name).load(None, head=True)
    except HeadlessError:
        return
    except UsageError as error:
        raise AssertionError(f"{name} has no head, and load(head=True) raised another error: {error}") from error
    raise AssertionError(f"{name} has no head, but load(head=True) raised no HeadlessError.")


def _check_names(name: str, info: SourceInfo, source: Source) -> None:
    n_names = len(source.class_names)
    wanted = info.n_classes or 0
    assert n_names == wanted, f"{name} has {n_names} class names. Expected {wanted}, as described."
    assert all(isinstance(text, str) for text in source.class_names), f"The class names of {name} are not all texts."


def _noise(source_input: Input) -> list[Any]:
    """Return three pieces of noise that the source takes."""
    rng = np.random.default_rng(0)
    if source_input.kind == "text":
        return list(TEXTS)
    if source_input.kind == "audio":
        rate = getattr(source_input, "rate")  # noqa: B009 - inputs of the kind audio have a rate
        length = getattr(source_input, "window", None) or round(SECONDS * rate)
        return [0.1 * rng.standard_normal(length).astype(np.float32) for _ in range(3)]
    channels = len(getattr(source_input, "mean", (0.0, 0.0, 0.0)))
    return [rng.random((channels, SIDE, SIDE), dtype=np.float32) for _ in range(3)]


def _run(model: Any, batch: Batch) -> Tensor:
    with torch.inference_mode():
        outputs: Tensor = model(batch)
    return outputs


def _check_rows(name: str, noun: str, rows: Any, n_rows: int, width: int | None) -> None:
    """Check that a result is a tensor of finite rows.

    Args:
        name: Name of the source.
        noun: Name of the result for messages, `outputs` or `features`.
        rows: The result.
        n_rows: Expected number of rows.
        width: Expected number of columns; None for any.
    """
    assert isinstance(rows, torch.Tensor), f"The {noun} of {name} are a {type(rows).__name__}. Expected a tensor."
    shape = tuple(rows.shape)
    assert rows.ndim == 2, f"The {noun} of {name} have the shape {shape}. Expected rows (B, D)."
    assert len(rows) == n_rows, f"{name} gives {len(rows)} rows of {noun} for {n_rows} samples."
    assert width is None or shape[1] == width, f"{name} gives {shape[1]} {noun}. Expected {width}, as described."
    assert rows.is_floating_point(), f"The {noun} of {name} have the type {rows.dtype}. Expected real numbers."
    assert rows.isfinite().all(), f"Some {noun} of {name} are NaN or infinite."


def _check_parts(name: str, source: Source, batch: Batch, outputs: Tensor) -> None:
    """Check that the parts of a source together give the outputs of its model, and that its tokens are (B, T, D)."""
    parts = source.split()
    with torch.inference_mode():
        encoded = parts.encoder(parts.embedder(batch))
        composed = parts.head(encoded)
        tokens = parts.tokens(encoded)
    assert composed.shape == outputs.shape, f"The parts of {name} give outputs of another shape than the model."
    assert _is_close(composed, outputs), f"Embedder, encoder and head of {name} do not give the model's outputs."
    assert tokens.ndim == 3, f"The tokens of {name} have the shape {tuple(tokens.shape)}. Expected (B, T, D)."


def _is_close(one: Tensor, other: Tensor) -> bool:
    scale = max(1.0, float(other.abs().max()))
    return bool((one - other).abs().max() <= TOLERANCE * scale)
