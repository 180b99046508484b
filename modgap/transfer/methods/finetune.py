"""Vanilla fine-tuning, equation (1)."""

from modgap.transfer.method import Method, full_stage

__all__ = ["METHOD"]

METHOD = Method(
    name="finetune",
    title="everything is trained on the task loss; embedder and predictor start at random",
    reference="MoNA (ICML 2024), equation (1), Table 2",
    stages=(full_stage(),),
)
