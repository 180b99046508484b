"""L2-SP: fine-tuning with a penalty on the distance of the encoder to the source's weights."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from modgap.training.method import Method, Objective, Stage, Training, full_stage
from modgap.training.task_loss import LossGradient, MicroBatch

__all__ = ["METHOD", "AnchoredObjective"]


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
        squares = sum(float(difference.double().square().sum()) for _, difference in self._differences())
        return LossGradient(result.gradient, result.loss, {"distance": float(np.sqrt(squares))})

    def before_step(self, rate: float) -> None:
        """Move the parameters towards the source by the encoder's rate times the gradient of the penalty."""
        share = min(1.0, rate * self.training.recipe.stage2.encoder_rate_factor * self.weight)
        for parameter, difference in self._differences():
            parameter.sub_(share * difference)

    def _differences(self) -> Iterator[tuple[Tensor, Tensor]]:
        parameters = dict(self.model.named_parameters())
        for name, anchor in self.anchors.items():
            value = parameters[name].detach()
            yield value, value - anchor


METHOD = Method(
    name="l2-sp",
    title="everything is trained, with a penalty on the distance of the encoder to the source's weights",
    reference="Li, Grandvalet and Davoine (2018), Explicit inductive bias for transfer learning",
    stages=(full_stage(objective=AnchoredObjective, holds_statistics=True),),
)
