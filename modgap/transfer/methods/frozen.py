"""The encoder is frozen and serves as a fixed feature extractor."""

from modgap.transfer.method import Method, embedder_and_predictor_parameters, full_stage

__all__ = ["METHOD"]

METHOD = Method(
    name="frozen",
    title="embedder and predictor are trained, the encoder is frozen",
    reference="MoNA (ICML 2024), Table 2",
    stages=(full_stage(embedder_and_predictor_parameters),),
)
