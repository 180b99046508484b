"""What a step of MoNA's first stage costs beside a step of vanilla fine-tuning: time and peak memory, both routes.

    python benchmarks/mona_step.py [--batches 16 64] [--repeats N] [--device cpu] [--out FILE]

ViT-Tiny at 112 pixels with random weights, classes of 10, a surrogate batch as large as the target's. About four
minutes on two cores. Each row is a process of its own: after two steps to warm up, the median of the steps' wall
times; peak memory is what the steps add to the process (to the allocator on a GPU) at most. Rows are measured in
turn, the whole round `--rounds` times, and the ratio is of the medians of all rounds, so that a machine that slows
down slows all rows.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

STEPS = ("vanilla", "emb", "exact", "finite-difference")
SIZE, CLASSES = 112, 10


def resident(field: str) -> int:
    """Bytes of this process's memory: VmRSS now, VmHWM at most since it was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def step_of(kind: str, batch: int, device):
    """A function that makes one step, optimizer and all."""
    import torch

    from modgap.models import Output, target_model
    from modgap.sources import open_source
    from modgap.transfer.gradients import OuterLoss, VirtualSteps, mona_gradient, task_gradient
    from modgap.transfer.losses import loss
    from modgap.transfer.methods import get_method
    from modgap.transfer.objectives import objective
    from modgap.transfer.task_loss import MicroBatch, TaskLoss

    torch.manual_seed(0)
    source = open_source("random:timm:vit_tiny_patch16_224").load(SIZE)
    parts = source.split()
    model = target_model(source, torch.zeros(3, SIZE, SIZE), Output("classification", (CLASSES,))).to(device)
    model.train(kind == "vanilla")
    x, y = torch.randn(batch, 3, SIZE, SIZE, device=device), torch.arange(batch, device=device) % CLASSES
    task = TaskLoss(model, loss("cross-entropy"), (MicroBatch(x, y),), batch)
    parameters = dict(model.named_parameters())
    embedder = get_method("mona").stages[1].select_parameters(model)
    trained = list(parameters) if kind == "vanilla" else embedder
    optimizer = torch.optim.AdamW([parameters[name] for name in trained], 1e-4)
    with torch.no_grad():
        given = parts.embedder.to(device)(torch.randn(batch, 3, SIZE, SIZE, device=device))
    outer = OuterLoss(lambda held: parts.tokens(held.encoder(given)).mean(1), y, objective("alignment-uniformity"))
    inner = [name for name in parameters if name not in embedder]

    def step() -> None:
        if kind in ("vanilla", "emb"):
            held = {name: p if name in trained else p.detach() for name, p in parameters.items()}
            found = task_gradient(task, held, trained)
        else:
            found = mona_gradient(task, outer, parameters, embedder, inner, VirtualSteps(1e-2, 0.4, route=kind))
        for name in trained:
            parameters[name].grad = found.gradient[name]
        optimizer.step()

    return step


def measured(kind: str, batch: int, repeats: int, device_name: str) -> dict:
    """Seconds a step, and bytes that the steps add at most."""
    import torch

    device = torch.device(device_name)
    step = step_of(kind, batch, device)
    cuda = device.type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else resident("VmRSS")
    if not cuda:
        # Peaks of loading are forgotten.
        Path("/proc/self/clear_refs").write_text("5")
    taken = []
    for _ in range(2 + repeats):
        began = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() if cuda else resident("VmHWM")
    return {"seconds": statistics.median(taken[2:]), "bytes": peak - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], int(given.one[1]), given.repeats, given.device)))
        return
    rows = [row for batch in given.batches for row in compared(batch, given)]
    show(rows)
    if given.out:
        given.out.write_text(
            json.dumps({"command": " ".join(sys.argv), "device": described(given.device), "rows": rows})
        )


def compared(batch: int, given) -> list[dict]:
    """All kinds of step at one batch size, in turn."""
    found: dict[str, list[dict]] = {kind: [] for kind in STEPS}
    for _ in range(given.rounds):
        for kind in STEPS:
            command = [sys.executable, __file__, "--one", kind, str(batch), "--device", given.device]
            done = subprocess.run([*command, "--repeats", str(given.repeats)], stdout=subprocess.PIPE, check=True)
            found[kind].append(json.loads(done.stdout))
    middle = {
        kind: {name: statistics.median(each[name] for each in rounds) for name in ("seconds", "bytes")}
        for kind, rounds in found.items()
    }
    return [
        {"batch": batch, "step": kind, **own} | {f"x {name}": own[name] / middle["vanilla"][name] for name in own}
        for kind, own in middle.items()
    ]


def show(rows: list[dict]) -> None:
    from modgap.cli.output import print_table

    cells = [
        [str(r["batch"]), r["step"], f"{r['seconds']:.3f}", f"{r['x seconds']:.2f}", f"{r['bytes'] / 1e6:.0f}",
         f"{r['x bytes']:.2f}"]
        for r in rows
    ]  # fmt: skip
    print_table(["batch", "step", "seconds", "x vanilla", "MB added", "x vanilla"], cells)


def described(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


if __name__ == "__main__":
    main()
