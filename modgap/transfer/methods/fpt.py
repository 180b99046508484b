"""Frozen pretrained transformer: of the encoder only the normalisation is trained."""

from modgap.transfer.method import Method, full_stage, normalisation

__all__ = ["METHOD"]

METHOD = Method(
    name="fpt",
    title="embedder, predictor and the encoder's normalisation layers are trained",
    reference="Lu et al. (2022), Pretrained transformers as universal computation engines; MoNA (ICML 2024), Table 1",
    stages=(full_stage(normalisation),),
)
