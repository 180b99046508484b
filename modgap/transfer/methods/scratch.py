"""Training from scratch, the baseline without any pretraining."""

from modgap.transfer.method import Method, full_stage

__all__ = ["METHOD"]

METHOD = Method(
    name="scratch",
    title="everything is trained from random weights",
    reference="MoNA (ICML 2024), Table 2",
    stages=(full_stage(),),
    pretrained_encoder=False,
)
