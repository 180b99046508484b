"""Pretrain the source `vit-fashion` on Fashion-MNIST's training images, and write its weights and model card.

Command: python tools/pretrain_vit_fashion.py
Run time: about 25 minutes of one core with bfloat16 instructions; interrupted, it goes on from the last epoch.
Expected: test accuracy of 90 % or more, measured once, after the last epoch.
Needs torch 2.9 or newer, for Muon: with it 240 steps give 73 % of held-out training images, with AdamW alone 66 %.
"""

import json
import math
import os
import platform
import sys
import time
from pathlib import Path

import click
import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from modgap.sources.timm.handle import read_weights
from modgap.sources.timm.vit_fashion import ARCHITECTURE, MEAN, OPTIONS, SD, SHIPPED
from modgap.targets import SPLITS, open_target

BATCH, EPOCHS, WARM_UP_STEPS = 128, 10, 200
PEAK_RATE, WEIGHT_DECAY, SMOOTHING, CLIP, SHIFT = 2e-3, 0.05, 0.1, 1.0, 1

CARD = """\
# vit-fashion

A vision transformer of {parameters:,} parameters (28 x 28 pixels, one channel, patches of 4, width 96, 6 blocks,
3 heads, no class token, average pooling), pretrained on {images:,} training images of Fashion-MNIST and on nothing
else. It is a source for trying modgap out without a download, not a good classifier of clothes.

| | |
|---|---|
| accuracy on the 10,000 test images, of these weights | {accuracy:.4f} |
| last epoch's training loss (label smoothing {smoothing}) and accuracy (augmented images) | {loss:.4f}, {trained:.4f} |
| weights | half precision, safetensors, {size:,} bytes |
| training | {epochs} epochs, batch {batch}, weight decay {decay} |
| optimizer | Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for all else |
| rate | of both, linear to {rate} in {warm_up} steps, then a cosine to 0; Muon's by `match_rms_adamw` |
| augmentation | shifts by up to {shift} pixel, left-right flips |
| command | `{command}` |
| seed | {seed} |
| time | {wall:.0f} s ({cpu:.0f} s of one core), {machine} |
| versions | {versions} |
| data | Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747), MIT license, Debian's dataset-fashion-mnist |
| license of the weights | MIT, as modgap |

The test images were looked at once, after the last epoch; nothing was chosen by them.
"""


def images_and_labels(split: str) -> tuple[Tensor, Tensor]:
    """Standardized images (N, 1, 28, 28) and classes (N,) of `train` or `test`; validation counts as training."""
    table = open_target("fashion-mnist").read()
    test = np.asarray(table.splits) == SPLITS.index("test")
    rows = np.flatnonzero(test if split == "test" else ~test)
    pixels = torch.from_numpy(np.stack([table.samples[int(i)] for i in rows])).float() / 255
    return (pixels - MEAN) / SD, torch.from_numpy(table.class_labels[rows])


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to SHIFT pixels, the border black, and flipped left to right or not."""
    size = images.shape[-1]
    padded = functional.pad(images, (SHIFT,) * 4, value=-MEAN / SD)
    tops, lefts = torch.randint(0, 2 * SHIFT + 1, (2, len(images), 1), generator=generator) + torch.arange(size)
    flips = torch.rand(len(images), 1, generator=generator) < 0.5
    lefts = torch.where(flips, lefts.flip(1), lefts)
    return padded[torch.arange(len(images))[:, None, None], 0, tops[:, :, None], lefts[:, None, :]][:, None]


def rate(step: int, steps_an_epoch: int, epochs: int) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine to zero."""
    if step < WARM_UP_STEPS:
        return PEAK_RATE * (step + 1) / WARM_UP_STEPS
    share = (step - WARM_UP_STEPS) / max(1, epochs * steps_an_epoch - WARM_UP_STEPS)
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * share))


def fresh(seed: int) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
    """The model with random weights, and its optimizers: no weight decay of biases, norms and positions."""
    torch.manual_seed(seed)
    model = timm.create_model(ARCHITECTURE, weight_init="jax", **OPTIONS)
    for block in model.blocks:
        # On a CPU the fused attention's backward pass in bfloat16 takes longer than all else together.
        block.attn.fused_attn = False
    named = list(model.named_parameters())
    matrices = [p for name, p in named if name.startswith("blocks.") and p.ndim == 2]
    plain = [p for name, p in named if p.ndim == 1 or name == "pos_embed"]
    taken = {id(p) for p in (*matrices, *plain)}
    ends = [p for _, p in named if id(p) not in taken]
    groups = [{"params": ends, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    return model, [
        torch.optim.Muon(matrices, lr=PEAK_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True),
    ]


def train_epoch(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    data: tuple[Tensor, Tensor],
    seed: int,
    epoch: int,
    epochs: int,
) -> dict[str, float]:
    """One pass over the data in an order that is a function of seed and epoch; its loss and accuracy."""
    images, labels = data
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    batches = torch.randperm(len(images), generator=generator).split(BATCH)
    model.train()
    loss_sum = hits = 0.0
    for number, rows in enumerate(batches):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate(epoch * len(batches) + number, len(batches), epochs)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(augmented(images[rows], generator)).float()
        loss = functional.cross_entropy(logits, labels[rows], label_smoothing=SMOOTHING)
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for optimizer in optimizers:
            optimizer.step()
        loss_sum += float(loss.detach()) * len(rows)
        hits += float((logits.argmax(1) == labels[rows]).sum())
    return {"loss": loss_sum / len(images), "accuracy": hits / len(images)}


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images that the model names rightly."""
    model.eval()
    guesses = torch.cat([model(part).argmax(1) for part in images.split(500)])
    return float((guesses == labels).float().mean())


def replace_with(path: Path, write) -> None:
    """Write a file under another name and rename it, so that it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write(temporary)
    temporary.replace(path)


def trained(seed: int, epochs: int, limit: int | None, checkpoint: Path) -> tuple[nn.Module, dict]:
    """The model after the last epoch, from the checkpoint if there is one; and the record of its epochs."""
    images, labels = images_and_labels("train")
    data = images[:limit], labels[:limit]
    model, optimizers = fresh(seed)
    record: dict = {"seed": seed, "epochs": epochs, "images": len(data[0]), "done": []}
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        if any(saved["record"][key] != record[key] for key in ("seed", "epochs", "images")):
            raise click.ClickException(f"{checkpoint} is of another run: {saved['record']}; remove it")
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        record = saved["record"]
    for epoch in range(len(record["done"]), epochs):
        wall, cpu = time.time(), time.process_time()
        done = train_epoch(model, optimizers, data, seed, epoch, epochs)
        record["done"].append(done | {"wall": time.time() - wall, "cpu": time.process_time() - cpu})
        states = [optimizer.state_dict() for optimizer in optimizers]
        state = {"model": model.state_dict(), "optimizers": states, "record": record}
        replace_with(checkpoint, lambda path, state=state: torch.save(state, path))
        click.echo(json.dumps({"epoch": epoch + 1} | record["done"][-1]), err=True)
    return model, record


def card(record: dict, test_accuracy: float, weights: Path, model: nn.Module) -> str:
    """The model card's text."""
    done = record["done"]
    versions = {"Python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__}
    return CARD.format(
        images=record["images"],
        parameters=sum(p.numel() for p in model.parameters()),
        accuracy=test_accuracy,
        loss=done[-1]["loss"],
        trained=done[-1]["accuracy"],
        size=weights.stat().st_size,
        smoothing=SMOOTHING,
        epochs=record["epochs"],
        batch=BATCH,
        rate=PEAK_RATE,
        warm_up=WARM_UP_STEPS,
        decay=WEIGHT_DECAY,
        shift=SHIFT,
        command=" ".join(["python", *sys.argv]),
        seed=record["seed"],
        wall=sum(epoch["wall"] for epoch in done),
        cpu=sum(epoch["cpu"] for epoch in done),
        machine=f"{platform.machine()}, one thread",
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
    )


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option("--epochs", default=EPOCHS, show_default=True)
@click.option("--limit", type=int, help="Train on the first images only, to try the script out.")
@click.option("--checkpoint", default="build/vit-fashion.pt", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default=SHIPPED, show_default=True, type=click.Path(path_type=Path))
def main(seed: int, epochs: int, limit: int | None, checkpoint: Path, out: Path) -> None:
    """Train, then write the weights in half precision and their card."""
    torch.set_num_threads(1)
    model, record = trained(seed, epochs, limit, checkpoint)
    half = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    replace_with(out, lambda path: save_file(half, path))
    model.load_state_dict(read_weights(out))
    test_accuracy = accuracy(model, *images_and_labels("test"))
    text = card(record, test_accuracy, out, model)
    replace_with(out.with_suffix(".md"), lambda path: path.write_text(text, encoding="utf-8"))
    click.echo(json.dumps({"test_accuracy": test_accuracy, "weights": str(out)}))


if __name__ == "__main__":
    main()
