"""Compare a step of MoNA's first stage, by both routes, with a step of fine-tuning: time and peak memory.

    python benchmarks/mona_step.py [--batches 16 64] [--repeats N] [--device cpu] [--out FILE]

The model is ViT-Tiny at 112 pixels with random weights and 10 classes. The surrogate batch is as large as the batch of
the target. The script takes about four minutes on two cores. Each row runs in its own process and has the median wall
time of the steps after two steps of warm-up. Peak memory is the largest memory that the steps add to the process, or to
the allocator on a GPU. The rows are measured in turn, for `--rounds` rounds, and the ratios are of the medians over the
rounds, so a machine that slows down slows all rows.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

STEPS = ("vanilla", "emb", "exact", "finite-difference")
SIZE = 112
CLASSES = 10


def resident_bytes(field: str) -> int:
    """Return the resident memory of this process: VmRSS is the present one, VmHWM the peak since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def create_step(kind: str, batch: int, device):
    """Return a function that makes one step, including that of the optimizer."""
    import torch

    from modgap.models import Output, target_model
    from modgap.sources import open_source
    from modgap.training.losses import loss
    from modgap.training.methods import get_method
    from modgap.training.methods.mona import alignment_uniformity, mona_gradient
    from modgap.training.recipe import EmbedderStage
    from modgap.training.surrogate_loss import OuterLoss
    from modgap.training.task_loss import MicroBatch, TaskLoss

    torch.manual_seed(0)
    source = open_source("random:timm:vit_tiny_patch16_224").load(SIZE)
    parts = source.split()
    model = target_model(source, torch.zeros(3, SIZE, SIZE), Output("classification", (CLASSES,))).to(device)
    model.train(kind == "vanilla")
    x = torch.randn(batch, 3, SIZE, SIZE, device=device)
    y = torch.arange(batch, device=device) % CLASSES
    task = TaskLoss(model, loss("cross-entropy"), (MicroBatch(x, y),), batch)
    parameters = dict(model.named_parameters())
    embedder = get_method("mona").stages[1].select_parameters(model)
    trained = list(parameters) if kind == "vanilla" else embedder
    optimizer = torch.optim.AdamW([parameters[name] for name in trained], 1e-4)
    with torch.no_grad():
        embedded = parts.embedder.to(device)(torch.randn(batch, 3, SIZE, SIZE, device=device))
    features = [lambda model: parts.tokens(model.encoder(embedded)).mean(1)]
    outer = OuterLoss(features, y, alignment_uniformity)

    def step() -> None:
        if kind in ("vanilla", "emb"):
            detached = {name: p if name in trained else p.detach() for name, p in parameters.items()}
            gradient, _ = task.gradient(detached, trained)
        else:
            gradient = mona_gradient(task, outer, embedder, EmbedderStage(alpha=1e-2, weight=0.4, route=kind)).gradient
        for name in trained:
            parameters[name].grad = gradient[name]
        optimizer.step()

    return step


def measure_step(kind: str, batch: int, repeats: int, device_name: str) -> dict:
    """Return the median seconds of a step, and the largest number of bytes that the steps add."""
    import torch

    device = torch.device(device_name)
    step = create_step(kind, batch, device)
    cuda = device.type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else resident_bytes("VmRSS")
    if not cuda:
        # This resets the peak, so that the peak of loading the model does not count.
        Path("/proc/self/clear_refs").write_text("5")
    seconds = []
    for _ in range(2 + repeats):
        began = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() if cuda else resident_bytes("VmHWM")
    return {"seconds": statistics.median(seconds[2:]), "bytes": peak - before}


def main() -> None:
    """Measure all kinds of step and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_step(options.one[0], int(options.one[1]), options.repeats, options.device)))
        return
    rows = [row for batch in options.batches for row in compare_steps(batch, options)]
    print_rows(rows)
    if options.out:
        record = {"command": " ".join(sys.argv), "device": describe_device(options.device), "rows": rows}
        options.out.write_text(json.dumps(record))


def compare_steps(batch: int, options: argparse.Namespace) -> list[dict]:
    """Measure all kinds of step at one batch size, in turn, each in its own process."""
    measurements: dict[str, list[dict]] = {kind: [] for kind in STEPS}
    for _ in range(options.rounds):
        for kind in STEPS:
            command = [sys.executable, __file__, "--one", kind, str(batch), "--device", options.device]
            done = subprocess.run([*command, "--repeats", str(options.repeats)], stdout=subprocess.PIPE, check=True)
            measurements[kind].append(json.loads(done.stdout))
    medians = {
        kind: {name: statistics.median(measurement[name] for measurement in rounds) for name in ("seconds", "bytes")}
        for kind, rounds in measurements.items()
    }
    vanilla = medians["vanilla"]
    return [
        {"batch": batch, "step": kind, **costs} | {f"{name}_ratio": costs[name] / vanilla[name] for name in costs}
        for kind, costs in medians.items()
    ]


def print_rows(rows: list[dict]) -> None:
    """Print the table."""
    from modgap.cli.output import print_table

    columns = ["batch size", "step", "seconds", "time ratio to vanilla", "MB added", "memory ratio to vanilla"]
    cells = [
        [
            str(row["batch"]),
            row["step"],
            f"{row['seconds']:.3f}",
            f"{row['seconds_ratio']:.2f}",
            f"{row['bytes'] / 1e6:.0f}",
            f"{row['bytes_ratio']:.2f}",
        ]
        for row in rows
    ]
    print_table(columns, cells)


def describe_device(device: str) -> str:
    """Return the name of the GPU, or the number of threads and the version of torch."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


if __name__ == "__main__":
    main()
