"""Fine-tuning that starts the embedder from the source embedder's weights."""

from modgap.transfer.method import Method, full_stage

__all__ = ["METHOD"]

METHOD = Method(
    name="finetune++",
    title="everything is trained on the task loss; the embedder starts from the source embedder's weights",
    reference="MoNA (ICML 2024), Table 2",
    stages=(full_stage(),),
    embedder_start="source",
)
