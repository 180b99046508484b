"""Check of a source: shapes, determinism, composition of its parts, independence of samples, and refusals."""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modgap.errors import UsageError
from modgap.sources import Batch, HeadlessError, Input, Source, SourceInfo, open_source, source_infos

__all__ = ["check_source"]

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

    - The source is listed, and its description is complete.
    - The fingerprint consists of plain values, and is the same for each call.
    - A model without a head raises `HeadlessError` where one is needed.
    - The head has as many class names as the description has classes.
    - The model gives one finite row of outputs for each sample. It is the same for each call, and does not depend on
      the other samples of the batch.
    - The features are finite rows of numbers.
    - Embedder, encoder and head together give the model's outputs, and the tokens have three axes.

    Args:
        name: Name of the source, as for `modgap.open_source`.

    Raises:
        AssertionError: If the source breaks one of these rules.
        InputError: If its weights are missing.
    """
    info = next((info for info in source_infos() if info.name == name), None)
    assert info is not None, f"Source {name} is not listed. Expected describe() to return a SourceInfo."
    _check_description(info)
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
