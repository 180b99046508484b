"""L2-SP: fine-tuning with a penalty on the distance of the encoder to the source's weights."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from modgap.process.devices import Number
from modgap.training.losses import norm_of_all
from modgap.training.method import Method, Objective, Stage, Training, full_stage
from modgap.training.task_loss import LossGradient, MicroBatch


class AnchoredObjective(Objective):
    """L_t with a penalty: half the squared distance to the source, times a weight.

    The gradient of the penalty, weight times the difference, is applied apart from that of L_t, as AdamW applies weight
    decay. As a part of the gradient it would be scaled by Adam, so that parameters on which L_t does not depend would
    swing by the learning rate. The penalty takes the place of the encoder's decay towards zero.

    Attributes:
        anchors: Weights of the source's encoder by the name of the parameter; other parameters have no penalty.
        weight: Weight of the penalty.
    """

    settings = ("stage2.anchor",)

    def __init__(self, training: Training, stage: Stage, number: int) -> None:
        """Copy the weights of the source to the device."""
        super().__init__(training, stage, number)
        encoder = training.source.split().encoder.to(device=training.device, dtype=training.dtype)
        weights = {f"encoder.{name}": value.detach() for name, value in encoder.named_parameters()}
        self.anchors = {name: value for name, value in weights.items() if name in self.trained}
        self.weight = training.recipe.stage2.anchor

    @property
    def without_decay(self) -> frozenset[str]:
        """Names of the encoder's trained parameters."""
        return frozenset(name for name in self.trained if name.startswith("encoder."))

    def gradient(
        self, parts: Sequence[MicroBatch], rows: np.ndarray, step: int, part_size: int | None = None
    ) -> LossGradient:
        """Return the gradient of L_t by the trained parameters, and the distance to the source for the log."""
        result = super().gradient(parts, rows, step, part_size)
        return LossGradient(result.gradient, result.loss, {"distance": _norm(self._differences()[1])})

    def before_step(self, rate: float) -> None:
        """Move the parameters towards the source by the encoder's rate times the gradient of the penalty."""
        share = min(1.0, rate * self.training.recipe.stage2.encoder_rate_factor * self.weight)
        values, differences = self._differences()
        if values:
            torch._foreach_sub_(values, torch._foreach_mul(differences, share))

    def _differences(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the parameters that have an anchor, and their differences from it."""
        parameters = dict(self.model.named_parameters())
        values = [parameters[name].detach() for name in self.anchors]
        return values, list(torch._foreach_sub(values, list(self.anchors.values()))) if values else []


def _norm(differences: list[Tensor]) -> Number:
    """Return the norm of all differences together.

    The CPU adds up in double precision. Another device takes the norms of all tensors at once and in single precision,
    and nothing waits for it.
    """
    if differences and differences[0].device.type != "cpu":
        return norm_of_all(differences)
    return float(np.sqrt(sum(float(difference.double().square().sum()) for difference in differences)))


METHOD = Method(
    name="l2-sp",
    title="everything is trained, with a penalty on the distance of the encoder to the source's weights",
    reference="Li, Grandvalet and Davoine (2018), Explicit inductive bias for transfer learning",
    stages=(full_stage(objective=AnchoredObjective, holds_statistics=True),),
)
