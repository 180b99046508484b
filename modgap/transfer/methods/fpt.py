"""Frozen pretrained transformer: only the normalization layers of the encoder are trained."""

from modgap.transfer.method import Method, fpt_parameters, full_stage

__all__ = ["METHOD"]

METHOD = Method(
    name="fpt",
    title="embedder, predictor and the encoder's normalization layers are trained",
    reference="Lu et al. (2022), Pretrained transformers as universal computation engines; MoNA (ICML 2024), Table 1",
    stages=(full_stage(fpt_parameters),),
)
