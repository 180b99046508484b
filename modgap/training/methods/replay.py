"""Replay: fine-tuning with labeled samples of the source's modality in every update."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from modgap.models.normalization import evaluation_mode
from modgap.probes.logistic import DEFAULT_STRENGTH, logistic_path, with_constants
from modgap.process.devices import upload
from modgap.training.method import Method, Objective, Stage, Training, full_stage
from modgap.training.recipe import Recipe
from modgap.training.surrogate_loss import SURROGATE_SETTINGS, FeatureLoss, SurrogateFeatures
from modgap.training.task_loss import LossGradient, MicroBatch


class ReplayObjective(Objective):
    """L_t and the loss of a fixed linear probe on surrogate samples, times a weight.

    The probe is fitted on the features of the source before the training, so that its loss rises when the encoder no
    longer tells the surrogate's classes apart where the source did. The encoder sees the surrogate in evaluation mode:
    without dropout, and with the running statistics of batch normalization, as when its knowledge is measured.

    Attributes:
        surrogate: Features of the surrogate.
        probe_loss: Mean cross-entropy of the probe.
        weight: Weight of that loss.
    """

    settings = ("stage2.replay", *SURROGATE_SETTINGS)
    surrogate: SurrogateFeatures

    def __init__(self, training: Training, stage: Stage, number: int) -> None:
        """Fit the probe."""
        super().__init__(training, stage, number)
        self.surrogate = SurrogateFeatures(training)
        self.probe_loss = _probe_loss(self.surrogate, training.device, training.dtype)
        self.weight = training.recipe.stage2.replay

    @classmethod
    def needs_surrogate(cls, recipe: Recipe) -> bool:  # noqa: ARG003
        """Return True."""
        return True

    def gradient(
        self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int, part_size: int | None = None
    ) -> LossGradient:
        """Return the gradient of both losses by the trained parameters, with the probe's loss for the log."""
        result = super().gradient(parts, rows, step, part_size)
        outer = self.surrogate.loss(self.probe_loss, step, part_size, normalizes=False)
        encoder = [name for name in self.trained if name.startswith("encoder.")]
        with evaluation_mode(self.model.encoder):
            replayed, loss = outer.gradient(self.model, dict(self.model.named_parameters()), encoder)
        total = {
            name: value + self.weight * replayed[name] if name in replayed else value
            for name, value in result.gradient.items()
        }
        return LossGradient(total, result.loss, {"replay": loss})


def _probe_loss(surrogate: SurrogateFeatures, device: torch.device, dtype: torch.dtype) -> FeatureLoss:
    """Return the mean cross-entropy of a linear probe that is fitted on the source's features of the surrogate."""
    features = with_constants(surrogate.of_source().double().numpy())
    probe = logistic_path(features, surrogate.labels, [DEFAULT_STRENGTH])
    weights, biases = (torch.from_numpy(part).to(device, dtype) for part in probe.affine())
    codes = torch.from_numpy(np.searchsorted(probe.classes, np.arange(surrogate.labels.max() + 1)))

    def loss(z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(z.to(weights.dtype) @ weights.T + biases, upload(codes[labels], z.device))

    return loss


METHOD = Method(
    name="replay",
    title="everything is trained, on the target and on labeled samples of the source's modality",
    reference="Rolnick et al. (2019), Experience replay for continual learning",
    stages=(full_stage(objective=ReplayObjective, holds_statistics=True),),
)
