"""Methods that minimize the loss of the target alone, and differ in the parameters that they train or start from."""

from modgap.training.method import (
    Method,
    Objective,
    embedder_and_predictor_parameters,
    fpt_parameters,
    full_stage,
    two_stages,
)

SCRATCH = Method(
    name="scratch",
    title="everything is trained from random weights",
    reference="MoNA (ICML 2024), Table 2",
    stages=(full_stage(),),
    pretrained_encoder=False,
)
"""Training from scratch, the baseline without any pretraining."""

FINETUNE = Method(
    name="finetune",
    title="everything is trained on the task loss; embedder and predictor start at random",
    reference="MoNA (ICML 2024), equation (1), Table 2",
    stages=(full_stage(),),
)
"""Vanilla fine-tuning, equation (1)."""

FINETUNE_PLUS_PLUS = Method(
    name="finetune++",
    title="everything is trained on the task loss; the embedder starts from the source embedder's weights",
    reference="MoNA (ICML 2024), Table 2",
    stages=(full_stage(),),
    embedder_start="source",
)
"""Fine-tuning that starts the embedder from the source embedder's weights."""

FROZEN = Method(
    name="frozen",
    title="embedder and predictor are trained, the encoder is frozen",
    reference="MoNA (ICML 2024), Table 2",
    stages=(full_stage(embedder_and_predictor_parameters),),
)
"""The encoder is frozen and serves as a fixed feature extractor."""

FPT = Method(
    name="fpt",
    title="embedder, predictor and the encoder's normalization layers are trained",
    reference="Lu et al. (2022), Pretrained transformers as universal computation engines; MoNA (ICML 2024), Table 1",
    stages=(full_stage(fpt_parameters),),
)
"""Frozen pretrained transformer: only the normalization layers of the encoder are trained."""

EMB = Method(
    name="emb",
    title="the embedder is trained alone on the task loss, then everything is trained",
    reference="MoNA (ICML 2024), Table 2",
    stages=two_stages(Objective),
)
"""The embedder is warmed up on the task loss before everything is fine-tuned."""

LP_FT = Method(
    name="lp-ft",
    title="everything of the source is trained at a tenth of the rate, from its linear probe",
    reference="Kumar et al. (2022), Fine-tuning can distort pretrained features and underperform out-of-distribution",
    stages=(full_stage(holds_statistics=True),),
    embedder_start="native",
    predictor_start="probe",
    rate_factor=0.1,
)
"""Linear probing, then fine-tuning: samples enter as for the linear probe, whose weights the predictor starts from."""
