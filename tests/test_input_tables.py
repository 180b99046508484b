"""The tables of docs/inputs.md show how labels and logits of every kind are read, or the message of the refusal."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

import modgap
from modgap.api.discrepancy import measure_logits_file
from modgap.cli.commands import name_options
from modgap.errors import InputError
from modgap.labels.user_arrays import number_labels
from modgap.targets import open_target

TEXT = (Path(__file__).parents[1] / "docs" / "inputs.md").read_text(encoding="utf-8")
N = 12
LABELS = {
    "integers from 0: `[0, 1, 1, 2]`": np.array([0, 1, 1, 2]),
    "integers from 1: `[1, 2, 2, 3]`": np.array([1, 2, 2, 3]),
    "integers with gaps: `[0, 5, 5, 9]`": np.array([0, 5, 5, 9]),
    "whole floats: `[0.0, 1.0, 1.0, 2.0]`": np.array([0.0, 1.0, 1.0, 2.0]),
    "booleans: `[True, False, False, True]`": np.array([True, False, False, True]),
    'strings: `["b", "a", "a", "c"]`': np.array(["b", "a", "a", "c"]),
    'categories: `pd.Categorical(["low", "high"], ["low", "high"])`': pd.Categorical(["low", "high"], ["low", "high"]),
    "tensor: `torch.tensor([0., 1.], requires_grad=True)`": torch.tensor([0.0, 1.0], requires_grad=True),
    "column: `[[0], [1], [1]]`": np.array([[0], [1], [1]]),
    "one-hot rows: `[[0, 1], [1, 0]]`": np.array([[0, 1], [1, 0]]),
    "rows of 0 and 1: `[[1, 1], [0, 1]]`": np.array([[1, 1], [0, 1]]),
    "negative: `[0, 1, -1]`": np.array([0, 1, -1]),
    "fractional: `[0.5, 1.0]`": np.array([0.5, 1.0]),
    "missing: `[0.0, nan, 1.0]`": np.array([0.0, np.nan, 1.0]),
    "rows of counts: `[[2, 1], [0, 1]]`": np.array([[2, 1], [0, 1]]),
}


def matrix() -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
    values[np.arange(N), np.arange(N) % 3] += 5
    return values


def with_nan() -> np.ndarray:
    values = matrix()
    values[2, 1] = np.nan
    return values


LOGITS = {
    "NumPy array (12, 4)": matrix,
    "nested list (12, 4)": lambda: matrix().tolist(),
    "float16 array (12, 4)": lambda: matrix().astype(np.float16),
    "`pandas.DataFrame` (12, 4)": lambda: pd.DataFrame(matrix()),
    "torch tensor with gradient (12, 4)": lambda: torch.from_numpy(matrix()).requires_grad_(),
    "torch tensor in bfloat16 (12, 4)": lambda: torch.from_numpy(matrix()).bfloat16(),
    "transposed (4, 12)": lambda: matrix().T,
    "one row too few (11, 4)": lambda: matrix()[:-1],
    "with NaN (12, 4)": with_nan,
    "one axis (12,)": lambda: matrix()[:, 0],
    "fewer columns than classes (12, 2)": lambda: matrix()[:, :2],
    "texts (12, 4)": lambda: matrix().astype(str),
}


def table_rows(title: str) -> list[list[str]]:
    """Rows of the first table below a heading of the page, without its head."""
    section = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def message(error: InputError) -> str:
    return f"refused: {error}"


def classes(labels: np.ndarray, names: list[str]) -> str:
    kind = "multi-label classes" if labels.ndim == 2 else "classes"
    return f"{kind} {', '.join(names)}"


def logged_notes(caplog) -> str:
    # A notebook that another test ran may warn when its kernel is collected.
    notes = [record.getMessage() for record in caplog.records if record.name.startswith("modgap")]
    return "".join(f". Note: {name_options(text)}" for text in notes)


def read_in_python(labels, caplog) -> str:
    caplog.clear()
    try:
        numbered = number_labels(labels)
    except InputError as error:
        return message(error)
    n_classes = numbered.numbers.shape[1] if numbered.numbers.ndim == 2 else int(numbered.numbers.max()) + 1
    names = list(numbered.names) or [str(number) for number in range(n_classes)]
    return classes(numbered.numbers, names) + logged_notes(caplog)


def read_in_target(labels, folder: Path, caplog) -> str:
    if not isinstance(labels, np.ndarray):
        return "-"
    np.savez(folder / "data.npz", x=np.zeros((len(labels), 5), np.float32), y=labels)
    caplog.clear()
    try:
        table = open_target(str(folder / "data.npz")).read()
    except InputError as error:
        return name_options(message(error)).replace(f"{folder}/", "")
    return classes(table.labels, list(table.classes)) + logged_notes(caplog)


def test_labels_of_every_kind_are_read_as_the_table_says(tmp_path, caplog):
    caplog.set_level("INFO")
    expected = [
        [kind, read_in_python(labels, caplog), read_in_target(labels, tmp_path, caplog)]
        for kind, labels in LABELS.items()
    ]
    assert len(expected) >= 12
    assert table_rows("Labels") == expected, "\n".join(f"| {' | '.join(row)} |" for row in expected)


def read_logits(logits) -> str:
    try:
        result = modgap.estimate(logits, np.arange(N) % 3, estimators="search", permutations=0)
    except InputError as error:
        return message(error)
    return f"{result.result.n_samples} samples, {result.result.n_source_classes} source classes"


def test_logits_of_every_kind_are_read_as_the_table_says():
    expected = [[kind, read_logits(logits())] for kind, logits in LOGITS.items()]
    assert len(expected) >= 8
    assert table_rows("Logits") == expected, "\n".join(f"| {' | '.join(row)} |" for row in expected)


def write_npy(folder: Path) -> Path:
    np.save(folder / "logits.npy", matrix())
    np.save(folder / "labels.npy", np.arange(N) % 3)
    return folder / "logits.npy"


def write_arrays(folder: Path, suffix: str) -> Path:
    arrays = {"logits": matrix(), "labels": np.arange(N) % 3}
    path = folder / f"logits{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".safetensors":
        save_file(arrays, path)
    else:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    return path


def write_table(folder: Path, suffix: str) -> Path:
    frame = pd.DataFrame(matrix()).rename(columns=str).assign(label=np.arange(N) % 3)
    path = folder / f"logits{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet files need pyarrow, which the extra parquet installs")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if "tsv" in suffix else ",")
    return path


def documented_logits_suffixes() -> list[str]:
    return [suffix for row in table_rows("Files of logits") for suffix in re.findall(r"`(\.[a-z.]+)`", row[0])]


@pytest.mark.parametrize("suffix", documented_logits_suffixes())
def test_each_documented_file_of_logits_gives_the_same_estimate(tmp_path, suffix):
    if suffix == ".npy":
        path = write_npy(tmp_path)
    elif suffix in (".npz", ".safetensors", ".pt", ".pth"):
        path = write_arrays(tmp_path, suffix)
    else:
        path = write_table(tmp_path, suffix)
    from_file = measure_logits_file(str(path), estimators=["search"], permutations=0)
    in_memory = modgap.estimate(matrix(), np.arange(N) % 3, estimators="search", permutations=0)
    assert from_file["search"] == in_memory["search"]
