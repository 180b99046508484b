"""PaRe, a reference of the comparison of methods: tokens of the source replace tokens of the target, fewer each epoch.

Cai et al. (ICML 2024), Enhancing cross-modal fine-tuning with gradually intermediate modality generation. A linear gate
scores the tokens of a target sample and those of a labeled sample of the source's modality. The k source tokens with
the highest scores take the places of the k target tokens with the lowest, in their order, and k falls linearly from
half of the T tokens to 0. With lambda = k / T the loss is

    CE(target, y) + (1 - lambda) CE(mix, y) + lambda CE(mix, y_source).

A second linear predictor, on the mean token, tells the classes of the source. The gate gets its gradient through the
source tokens that it chose (straight through). The authors' code differs in details, such as noise in the first epochs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from modgap.models import TargetModel
from modgap.models.initialization import seeded_rng
from modgap.training.method import Method, Objective, Stage, Training, full_stage
from modgap.training.recipe import Recipe
from modgap.training.surrogate_loss import SURROGATE_SETTINGS, SurrogateFeatures
from modgap.training.task_loss import LossGradient, MicroBatch, plain_gradients

FIRST_SHARE = 0.5
"""Share of the tokens that are replaced at the beginning."""


class PatchReplacement(Objective):
    """The loss above. The gate and the second predictor are trained with the model."""

    settings = SURROGATE_SETTINGS
    divides = False

    def __init__(self, training: Training, stage: Stage, number: int) -> None:
        """Add the gate and the second predictor to the model."""
        self.samples = SurrogateFeatures(training)
        self.parts = training.source.split()
        with torch.no_grad():
            source = self.parts.embedder(self.samples.reader(0)[1].inputs)
            encoded = self.parts.tokens(self.parts.encoder(source))
        with seeded_rng(training.seed, "predictor"):
            gate = nn.Linear(as_tokens(source).shape[2], 1)
            predictor = nn.Linear(encoded.shape[2], int(self.samples.labels.max()) + 1)
        training.model.replacement = nn.ModuleDict({"gate": gate, "predictor": predictor})
        super().__init__(training, stage, number)
        n_batches = len(self.plan_epoch(0))
        self.n_steps = n_batches * stage.n_epochs(training.recipe)

    @classmethod
    def needs_surrogate(cls, recipe: Recipe) -> bool:
        """Return True."""
        return True

    def gradient(
        self,
        parts: Sequence[MicroBatch],
        rows: np.ndarray,
        step: int,
        part_size: int | None = None,
    ) -> LossGradient:
        """Return the gradient of the loss by all parameters."""
        (batch,) = parts
        model = self.model
        _, surrogate_batch, labels = self.samples.reader(step)
        with torch.no_grad():
            source = self.parts.embedder(surrogate_batch.divide(len(batch.x))[0].inputs)
        target = model.embed(batch.x)
        share = FIRST_SHARE * (1 - step / self.n_steps)
        mixed, replaced = replace_tokens(target, source, model.replacement["gate"], share)
        encoded = model.encode(mixed)
        loss = self._mean_loss(model.predictor(model.encode(target)), batch)
        loss = loss + (1 - replaced) * self._mean_loss(model.predictor(encoded), batch)
        of_source = model.replacement["predictor"](encoded.mean(dim=1))
        loss = loss + replaced * cross_entropy(of_source, labels[: len(batch.x)])
        parameters = dict(model.named_parameters())
        gradients = plain_gradients(loss, [parameters[name] for name in self.trained])
        return LossGradient(dict(zip(self.trained, gradients, strict=True)), loss.detach())

    def _mean_loss(self, outputs: Tensor, batch: MicroBatch) -> Tensor:
        return self.loss(outputs, batch.y, batch.mask).mean()


def as_tokens(encoder_input: Tensor) -> Tensor:
    """Return tokens (n, T, D) of an encoder's input, which may be a feature map (n, D, H, W)."""
    return encoder_input.flatten(2).transpose(1, 2) if encoder_input.ndim == 4 else encoder_input


def replace_tokens(target: Tensor, source: Tensor, gate: nn.Module, share: float) -> tuple[Tensor, float]:
    """Return the encoder's input with a share of the target's tokens replaced, and this share, a multiple of 1 / T.

    Args:
        target: Input of the encoder from target samples: tokens (n, T, D), or a feature map (n, D, H, W).
        source: The same from as many samples of the source's modality.
        gate: Module that scores tokens.
        share: Share of the tokens to replace, in [0, 1].
    """
    of_target, of_source = as_tokens(target), as_tokens(source)
    count = int(share * of_target.shape[1])
    if not count:
        return target, 0.0
    scores = gate(of_source).squeeze(2)
    chosen = scores.topk(count, dim=1).indices.sort(dim=1).values
    places = gate(of_target).squeeze(2).topk(count, dim=1, largest=False).indices.sort(dim=1).values
    weights = scores.sigmoid().gather(1, chosen)[..., None]
    width = of_target.shape[2]
    taken = of_source.gather(1, chosen[..., None].expand(-1, -1, width)) * (1 + (weights - weights.detach()))
    mixed = of_target.scatter(1, places[..., None].expand(-1, -1, width), taken)
    mixed = mixed.transpose(1, 2).reshape(target.shape) if target.ndim == 4 else mixed
    return mixed, count / of_target.shape[1]


def _all_parameters(model: TargetModel) -> list[str]:
    return [name for name, _ in model.named_parameters()]


METHOD = Method(
    name="pare",
    title="everything is trained, on the target and on samples with tokens of the source's modality",
    reference="Cai et al. (2024), Enhancing cross-modal fine-tuning with gradually intermediate modality generation",
    stages=(full_stage(_all_parameters, PatchReplacement),),
)
