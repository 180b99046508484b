"""Valid files of trained models and of a matrix, and the functions that read them."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.campaign.seed_files import fit_checksum, write_report

RECORD: dict[str, Any] = {
    "schema": 1,
    "kind": "run",
    "method": "finetune",
    "source": "vit-fashion",
    "target": "mine",
    "protocol": "validation",
    "seed": 0,
    "limit": None,
    "input_size": None,
    "recipe": {"stage2": {"batch_size": 8}, "precision": "float32", "target_sequence_length": None},
    "recipe_conversion": {},
    "samples": {"train": 4, "validation": 2, "test": 4},
    "inputs": {"shape": [1, 6], "mean": [0.5], "sd": [2.0]},
    "data": {
        "input": {"kind": "series", "rate": 100.0},
        "transforms": [
            {"name": "fill"},
            {"name": "standardize"},
            {"name": "pad", "start": 0, "size": [6], "fill": 0.0},
        ],
        "classes": ["a", "b"],
        "columns": ["c0", "c1", "c2", "c3", "c4"],
        "background": "white",
        "is_scaled": False,
    },
    "output": {"task": "classification", "shape": [2]},
    "provenance": {"modgap": "0", "source": {"architecture": "a", "weights": "b"}, "target": {}, "surrogate": None},
    "environment": {"python": "3"},
    "result": {
        "metric": "0-1 error %", "unit": "%", "test": 25.0, "interval": [10.0, 40.0], "no_interval": None,
        "left_out": 0, "no_sample_errors": None, "confusion": [[1, 1], [0, 2]],
        "constant_error": 50.0, "chance_p": 0.25,
        "validation": 20.0, "epoch": 2,
        "chosen_by": "lowest validation error", "updates": 4, "seconds": 1.5,
    },
}  # fmt: skip
SWEEP: dict[str, Any] = {
    "values": {"stage2.learning_rate": ["1e-4", "1e-3"]},
    "trials": [
        {
            "settings": {"stage2.learning_rate": "1e-4"},
            "state": "finished", "validation": 30.0, "epoch": 2, "updates": 4, "seconds": 1.5,
        },
        {"settings": {"stage2.learning_rate": "1e-3"}, "state": "failed", "message": "The loss is NaN."},
    ],
    "chosen": 1,
}  # fmt: skip
RECORD["sweep"] = SWEEP
LOG = [
    {"stage": "stage1", "epoch": 1, "updates": 2, "loss": 1.5, "outer": -3.0, "mixed_share": 0.01},
    {"stage": "stage2", "epoch": 1, "updates": 2, "loss": 1.0, "validation_error": 30.0},
    {"stage": "stage2", "epoch": 2, "updates": 2, "loss": 0.5, "validation_error": 20.0},
]
ARRAYS = {
    "transform.0.values": np.zeros((1, 5)),
    "transform.1.mean": np.full((1, 5), 0.5),
    "transform.1.sd": np.ones((1, 5)),
}
SAMPLE = np.array([[1.0, 2.0, np.nan, 4.0, 5.0]])


def run_file(name: str) -> Callable[[Path], Path]:
    """Return a function that writes the files of a run, and returns the one of this name."""

    def make(folder: Path) -> Path:
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(RECORD))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
        save_file(ARRAYS, folder / "inputs.safetensors")
        return folder / name

    return make


def pieces_of(inputs: Any) -> list[np.ndarray]:
    """Return the inputs of a network that a sample becomes."""
    pieces: list[np.ndarray] = inputs.inputs.pieces(inputs.prepared(SAMPLE))
    return pieces


def prepare(path: Path) -> object:
    """Read how a model prepares its samples, and prepare one."""
    from modgap.training.run_folder import open_run
    from modgap.training.trained_inputs import read_inputs

    fit_checksum(path.parent / "run.json")
    pieces = pieces_of(read_inputs(open_run(path.parent)))
    return [piece.shape for piece in pieces]


def write_run_page(path: Path) -> object:
    """Write the page of a run."""
    from modgap.api.pages.write import write_page

    fit_checksum(path.parent / "run.json")
    return write_page(path.parent).read_text()


def model_file(folder: Path) -> Path:
    """Write a model as one file."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    tensors = {f"inputs.{name}": array for name, array in ARRAYS.items()}
    save_file({"model.predictor.bias": np.zeros(2, np.float32), **tensors}, path, {"modgap.run": json.dumps(RECORD)})
    return path


def read_model(path: Path) -> object:
    """Read a model in one file, and prepare a sample."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    from modgap.training import trained_model
    from modgap.training.trained_inputs import read_inputs

    # As in `fit_checksum`.
    with contextlib.suppress(SafetensorError, AttributeError, KeyError):
        with safe_open(path, "pt") as file:
            record = file.metadata()[trained_model.RECORD_KEY]
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
        digest = trained_model._digest(record, tensors)
        save_file(tensors, path, {trained_model.RECORD_KEY: record, trained_model.DIGEST_KEY: digest})
    run, state, arrays = trained_model.read_model_file(path)
    pieces = pieces_of(read_inputs(run, arrays))
    return sorted(state), [piece.shape for piece in pieces]


def sweep_table(folder: Path) -> Path:
    """Write the table of a sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.json"
    path.write_text(json.dumps({"schema": 2, "settings": {}, "values": SWEEP["values"], "trials": SWEEP["trials"]}))
    return path


def read_sweep(path: Path) -> object:
    """Read the table of a sweep, and choose a trial."""
    from modgap.training.sweep import _best
    from modgap.training.sweep import read_sweep as read_file

    trials = read_file(path.parent)["trials"]
    return _best(trials)


def matrix_record(folder: Path) -> Path:
    from modgap.ranking.matrix.formats import RECORD, write_results
    from tests.matrices import make_matrix, make_measure

    folder.mkdir(parents=True)
    measures = [make_measure("leep", [[1.0, 2.0], [0.5, 1.5]]), make_measure("knn", [[0.1, 0.2], [0.3, 0.1]])]
    matrix = make_matrix(measures, ["a", "b"], ["t", "u"], reasons={("a", "t"): "no weights"})
    write_results(matrix, (), folder)
    return folder / RECORD


PARSED = [
    ("matrix record", matrix_record, write_report),
    ("sweep table", sweep_table, read_sweep),
    ("trained record", run_file("run.json"), prepare),
    ("trained inputs", run_file("inputs.safetensors"), prepare),
    ("run page record", run_file("run.json"), write_run_page),
    ("run page log", run_file("metrics.jsonl"), write_run_page),
    ("trained model file", model_file, read_model),
]
"""Name, maker and reader of each."""
