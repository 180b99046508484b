"""The embedder is warmed up on the task loss before everything is fine-tuned."""

from modgap.transfer.method import Method, Objective, two_stages

__all__ = ["METHOD"]

METHOD = Method(
    name="emb",
    title="the embedder is trained alone on the task loss, then everything is trained",
    reference="MoNA (ICML 2024), Table 2",
    stages=two_stages(Objective),
)
