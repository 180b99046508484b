"""Replay: fine-tuning with labeled samples of the source's modality in every update."""

from modgap.transfer.method import Method, full_stage

__all__ = ["METHOD"]

METHOD = Method(
    name="replay",
    title="everything is trained, on the target and on labeled samples of the source's modality",
    reference="Rolnick et al. (2019), Experience replay for continual learning",
    stages=(full_stage(objective="replay", holds_statistics=True),),
)
