"""Small targets and surrogates to train on, and runs of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.torch_version import TorchVersion

from modgap.forward.sample_request import SampleRequest
from modgap.models import Output, target_model
from modgap.targets import CustomData, TargetRequest
from modgap.training.checkpoint import RunFiles
from modgap.training.export import LOWEST_TORCH
from modgap.training.losses import loss
from modgap.training.method import Training
from modgap.training.methods import get_method
from modgap.training.methods.mona import alignment_uniformity
from modgap.training.surrogate_loss import OuterLoss
from modgap.training.task_loss import MicroBatch, TaskLoss
from modgap.training.train import TrainRequest, build_training, train
from modgap.training.train_request import set_up_training

TASKS = ("classification", "multi-label", "regression")
SHORT = ("stage1.epochs=1", "stage2.epochs=1", "stage1.batch_size=8", "stage2.batch_size=8", "stage1.surrogate_batch=8")
NOUNS = ("cat", "dog", "mat", "text")


def skip_without_exporter(file_format: str) -> None:
    """Skip a test where the installed torch does not export programs in a format."""
    if (lowest := LOWEST_TORCH[file_format]) > TorchVersion(torch.__version__):
        pytest.skip(f"the format {file_format} needs torch {lowest}")


def target_file(folder: Path, task: str, *, image: bool = True, samples: int = 40) -> Path:
    """An .npz of images (1, 12, 10) or series (2, 24) with classes, several labels, or values of the samples' size."""
    rng = np.random.default_rng(0)
    labels = np.arange(samples) % 4
    shape = (1, 12, 10) if image else (2, 24)
    x = (rng.standard_normal((samples, *shape)) + labels.reshape(-1, *(1,) * len(shape))).astype(np.float32)
    several = np.stack([labels % 2, labels // 2, rng.integers(0, 2, samples)], 1)
    y = {"classification": labels, "multi-label": several, "regression": x[:, :1] ** 2}[task]
    path = folder / f"{task}-{'image' if image else 'series'}.npz"
    np.savez(path, x=x, y=y)
    return path


def surrogate_file(folder: Path, *, image: bool = True) -> Path:
    """Labeled data that sources of images, or of text, take."""
    if image:
        rng = np.random.default_rng(1)
        labels = np.repeat(np.arange(3), 20)
        path = folder / "surrogate.npz"
        images = rng.random((60, 3, 16, 16), dtype=np.float32) + labels[:, None, None, None]
        np.savez(path, x=images, y=labels)
        return path
    path = folder / "surrogate.csv"
    rows = [f"the {NOUNS[i % 4]} sat on a {NOUNS[i // 4 % 4]} {i},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def run(folder: Path, name: str, source: str, target: str | Path, surrogate: Path, *settings: str, **options):
    """One short run of a method, in a new folder."""
    overrides = (f"stage1.surrogate={surrogate}", *SHORT, *settings)
    resume = options.pop("resume", False)
    custom_data = options.pop("custom_data", None)
    if Path(target).name.endswith("-series.npz"):
        custom_data = CustomData(kind="series")
    requested = TargetRequest(str(target), custom_data)
    samples = SampleRequest(**{name: options.pop(name) for name in ("limit", "seed", "input_size") if name in options})
    return train(TrainRequest(name, source, requested, overrides, samples=samples, **options), folder, resume=resume)


def training_of(method: str, source, data, *settings: str) -> Training:
    """The training of a method on the CPU, before it begins, from a source and data that are open."""
    request = TrainRequest(
        method, "vit-fashion", TargetRequest("digits"), settings, samples=SampleRequest(device="cpu")
    )
    return build_training(request, source, set_up_training(request, source, data), RunFiles())


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers, copied."""
    return {name: value.clone() for name, value in model.state_dict().items()}


class Problem:
    """L_t and L_outer of one batch on a small model, in float64, with parameters to differentiate by.

    Where dropout and batch statistics are off, as in stage 1.
    """

    def __init__(self, source, shape: tuple[int, ...], *, samples: int = 6, parts: int = 1, pairs: int = 8):
        torch.manual_seed(0)
        self.model = target_model(source, np.zeros(shape, np.float32), Output("classification", (3,))).double().eval()
        x, y = torch.randn(samples, *shape, dtype=torch.float64), torch.arange(samples) % 3
        pieces = tuple(MicroBatch(*arrays) for arrays in zip(x.chunk(parts), y.chunk(parts), strict=True))
        self.task = TaskLoss(self.model, loss("cross-entropy"), pieces, samples)
        self.labels = torch.arange(pairs) % 3
        tokens = self.model.embed(x).detach()
        entering = tokens[torch.arange(pairs) % samples] + 0.3 * torch.randn(
            pairs, *tokens.shape[1:], dtype=torch.float64
        )
        self.outer = OuterLoss([lambda model: model.encode(entering).mean(1)], self.labels, alignment_uniformity)
        self.parameters = dict(self.model.named_parameters())
        self.embedder = get_method("emb").stages[1].select_parameters(self.model)
        self.inner = [name for name in self.parameters if name not in self.embedder]

    def at(self, **changed):
        """All parameters, some of them exchanged; leaves of their own."""
        return {n: changed.get(n, p).detach().clone().requires_grad_() for n, p in self.parameters.items()}
