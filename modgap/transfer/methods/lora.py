"""LoRA: embedder, predictor, and changes of low rank of the encoder's layers."""

from modgap.transfer.low_rank import add_low_rank_changes, low_rank_parameters, merge_low_rank_changes
from modgap.transfer.method import Adapter, Method, full_stage

__all__ = ["METHOD"]

METHOD = Method(
    name="lora",
    title="embedder and predictor are trained, and changes of low rank of the encoder's layers",
    reference="Hu et al. (2022), LoRA: Low-rank adaptation of large language models",
    stages=(full_stage(low_rank_parameters, holds_statistics=True),),
    adapter=Adapter("lora", add_low_rank_changes, merge_low_rank_changes),
)
