"""Frozen pretrained transformer: of the encoder only the normalization is trained."""

from modgap.transfer.method import Method, full_stage, normalization

__all__ = ["METHOD"]

METHOD = Method(
    name="fpt",
    title="embedder, predictor and the encoder's normalization layers are trained",
    reference="Lu et al. (2022), Pretrained transformers as universal computation engines; MoNA (ICML 2024), Table 1",
    stages=(full_stage(normalization),),
)
