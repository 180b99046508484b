"""MoNA: the embedder is meta-learned so that a step of fine-tuning is to preserve the source knowledge."""

from modgap.transfer.method import Method, two_stages

__all__ = ["METHOD"]

METHOD = Method(
    name="mona",
    title="the embedder is meta-learned to make fine-tuning keep the source knowledge, then everything is trained",
    reference="MoNA (ICML 2024), Algorithm 1, equations (2) to (9)",
    stages=two_stages("mona"),
)
