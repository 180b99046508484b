"""Time from command to result of a ranking of text encoders, against transformer-ranker, as whole processes.

    pip install transformer-ranker==0.2.0
    python benchmarks/whole_ranking.py FOLDER [--rounds 3]

Both rank `minilm` alone, and `minilm` with three encoders of the same size with random weights, by the H-score on 1,500
sentences of four classes, with both cores and from local files. The rounds alternate between the two, and the ratio is
that of the medians. modgap has an empty cache in each round, and neither controls nor raw values, which the other does
not have. `--peer-path` names a folder with transformer-ranker, where it is not among the installed packages.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SENTENCES = 1500
CLASSES = 4
LONGEST = 40
PEER = """
import sys
from datasets import load_dataset
from transformer_ranker import TransformerRanker
table, *models = sys.argv[1:]
data = load_dataset("csv", data_files=table, split="train").class_encode_column("label")
print(TransformerRanker(data, text_column="text", label_column="label").run(models, estimator="hscore", device="cpu"))
"""


def write_sentences(path: Path) -> None:
    """Write sentences of random words, of which each class prefers some."""
    words = _words()
    rng = np.random.default_rng(0)
    lines = ["text,label"]
    for number in range(SENTENCES):
        label = number % CLASSES
        own = words[label::CLASSES]
        chosen = [str(rng.choice(own if rng.random() < 0.3 else words)) for _ in range(rng.integers(4, LONGEST))]
        lines.append(f"{' '.join(chosen)},{'abcd'[label]}")
    path.write_text("\n".join(lines) + "\n")


def _words() -> list[str]:
    """Return the whole words of the vocabulary of `minilm`."""
    lines = (model_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.isascii() and line.isalpha() and len(line) > 2][:4000]


def model_folder() -> Path:
    """Return the folder of the files of `minilm`."""
    from modgap.sources import open_source

    handle = open_source("minilm")
    folder: Path = handle.files.folder  # type: ignore[attr-defined]
    return folder


def write_random_models(folder: Path) -> list[Path]:
    """Write three models of the architecture of `minilm` with random weights, and its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    paths = []
    for seed in (1, 2, 3):
        path = folder / f"random-{seed}"
        if not (path / "config.json").exists():
            torch.manual_seed(seed)
            shutil.copytree(model_folder(), path, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "*.onnx"))
            BertModel(BertConfig.from_pretrained(model_folder())).save_pretrained(path)
        paths.append(path)
    return paths


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Run a command, and return its wall time."""
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - began


def main() -> None:
    """Print the times of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-path", default="")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    table = options.folder / "sentences.csv"
    write_sentences(table)
    several = [model_folder(), *write_random_models(options.folder)]
    base = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for models in ([several[0]], several):
        times: dict[str, list[float]] = {"modgap": [], "transformer-ranker": []}
        names = ",".join(["minilm", *map(str, models[1:])])
        for number in range(options.rounds):
            cache = options.folder / f"cache-{len(models)}-{number}"
            shutil.rmtree(cache, ignore_errors=True)
            command = [sys.executable, "-m", "modgap", "rank", "--target", str(table), "--kind", "text"]
            command += ["--label", "label", "--sources", names, "--by", "h-score", "--score", "h-score"]
            command += [
                "--no-controls",
                "--baselines",
                "none",
                "--head",
                "none",
                "--resamples",
                "0",
                "--split",
                "all",
                "--quiet",
            ]
            times["modgap"].append(seconds(command, {**base, "MODGAP_CACHE": str(cache)}))
            peer = [sys.executable, "-c", PEER, str(table), *map(str, models)]
            peer_path = {"PYTHONPATH": options.peer_path} if options.peer_path else {}
            own_cache = {"HF_DATASETS_CACHE": str(cache / "datasets")}
            times["transformer-ranker"].append(seconds(peer, {**base, **peer_path, **own_cache}))
        medians = {name: float(np.median(values)) for name, values in times.items()}
        shown = "; ".join(f"{name} {', '.join(f'{one:.1f}' for one in values)} s" for name, values in times.items())
        ratio = medians["modgap"] / medians["transformer-ranker"]
        print(
            f"{len(models)} source{'s' if len(models) > 1 else ''}: {shown}; ratio of the medians {ratio:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
