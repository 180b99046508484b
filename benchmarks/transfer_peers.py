"""Test errors of other tools on the tables and series of `whole_transfer.py`, with the same splits and the same time.

    python benchmarks/transfer_peers.py export FOLDER [--own OWN.json]   write the samples of each target to FOLDER
    python benchmarks/transfer_peers.py run FOLDER PEER [--minutes 10]   fit a peer to each target, and test it once

PEER is one of

    autogluon   AutoGluon's tabular predictor with the preset best_quality, in an environment of its own (it needs
                autogluon.tabular, NumPy and pandas, but not modgap)
    boosting    histogram gradient boosting of scikit-learn with its defaults; the values of series side by side
    hive-cote   HIVE-COTE 2 of aeon, for series

Errors are in percent, of values the root of the mean squared error. A line of FOLDER/peers.jsonl has each result.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

KEYS = {"--kind": "kind", "--label": "label_column", "--task": "task", "--x": "x_name", "--y": "y_name"}
"""Fields of `modgap.targets.CustomData` by the options of `modgap train`."""
TABLES, SERIES = ("glass", "cpus", "tissue-genes"), ("coffee", "pickup-gesture", "osu-leaf")
Predict = Callable[[np.ndarray], np.ndarray]


def export(folder: Path, own: dict[str, list[str]]) -> None:
    """Write the labeled and the test samples of each target, (n, features) of tables and (n, channels, length)."""
    from modgap.race.steps import read_labeled
    from modgap.targets import TargetRequest
    from modgap.targets.custom import CustomData

    folder.mkdir(parents=True, exist_ok=True)
    for name in (*TABLES, *SERIES):
        options = own.get(name, ["--target", name])
        given = dict(zip(options[::2], options[1::2], strict=True))
        custom = {KEYS[option]: value for option, value in given.items() if option in KEYS}
        data = read_labeled(TargetRequest(given["--target"], CustomData.of(custom)), None, 0).data
        arrays = {}
        for part, rows in (("train", np.sort(np.concatenate([data.train, data.validation]))), ("test", data.test)):
            samples = [np.asarray(data.table.samples[row], np.float64) for row in rows]
            arrays[f"x_{part}"] = np.stack(samples)
            truth = data.ground_truth(rows)[0]
            if data.output.task == "regression":
                mean, sd = data.scale or (0, 1)
                truth = (truth.astype(np.float64) * sd + mean).reshape(-1)
            arrays[f"y_{part}"] = truth
        if name in TABLES:
            arrays |= {
                f"x_{part}": arrays[f"x_{part}"].reshape(len(arrays[f"x_{part}"]), -1) for part in ("train", "test")
            }
        np.savez(folder / f"{name}.npz", **arrays)
        print(name, *(f"{key} {value.shape}" for key, value in arrays.items()))


def autogluon(x: np.ndarray, y: np.ndarray, minutes: float, folder: str) -> Predict:
    """Fit AutoGluon within some minutes."""
    import pandas as pd
    from autogluon.tabular import TabularPredictor

    def frame(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values.reshape(len(values), -1), columns=[f"c{number}" for number in range(values[0].size)])

    data = frame(x).assign(label=y)
    predictor = TabularPredictor("label", path=folder, verbosity=0)
    predictor.fit(data, presets="best_quality", time_limit=60 * minutes, num_cpus=2)
    return lambda new: predictor.predict(frame(new)).to_numpy()


def boosting(x: np.ndarray, y: np.ndarray, minutes: float, folder: str) -> Predict:
    """Fit scikit-learn's histogram gradient boosting, which takes as long as it takes."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    model = (HistGradientBoostingRegressor if y.dtype.kind == "f" else HistGradientBoostingClassifier)(random_state=0)
    fitted = model.fit(x.reshape(len(x), -1), y)
    return lambda new: fitted.predict(new.reshape(len(new), -1))


def hive_cote(x: np.ndarray, y: np.ndarray, minutes: float, folder: str) -> Predict:
    """Fit HIVE-COTE 2 within about some minutes."""
    from aeon.classification.hybrid import HIVECOTEV2

    return HIVECOTEV2(time_limit_in_minutes=minutes, n_jobs=2, random_state=0).fit(x, y).predict


PEERS = {"autogluon": (autogluon, (*TABLES, *SERIES)), "boosting": (boosting, (*TABLES, *SERIES)),
         "hive-cote": (hive_cote, SERIES)}  # fmt: skip


def run(folder: Path, peer: str, minutes: float) -> None:
    """Fit a peer to each of its targets, test it, and append a line."""
    fit, targets = PEERS[peer]
    for name in targets:
        with np.load(folder / f"{name}.npz") as arrays, tempfile.TemporaryDirectory() as scratch:
            data = dict(arrays)
            began = time.perf_counter()
            predicted = fit(data["x_train"], data["y_train"], minutes, scratch)(data["x_test"])
            seconds = time.perf_counter() - began
        truth = data["y_test"]
        is_value = truth.dtype.kind == "f"
        error = np.sqrt(((predicted - truth) ** 2).mean()) if is_value else 100 * (predicted != truth).mean()
        line = {"target": name, "peer": peer, "minutes": minutes, "test": float(error), "seconds": round(seconds, 1)}
        print(line, flush=True)
        with (folder / "peers.jsonl").open("a") as stream:
            stream.write(f"{json.dumps(line)}\n")


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["export", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("peer", nargs="?", choices=list(PEERS))
    parser.add_argument("--own", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    if options.command == "export":
        export(options.folder, json.loads(options.own.read_text()) if options.own else {})
    elif options.peer is None:
        parser.error("name a peer")
    else:
        run(options.folder, options.peer, options.minutes)


if __name__ == "__main__":
    main()
