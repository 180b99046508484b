"""L2-SP: fine-tuning with a penalty on the distance of the encoder to the source's weights."""

from modgap.transfer.method import Method, full_stage

__all__ = ["METHOD"]

METHOD = Method(
    name="l2-sp",
    title="everything is trained, with a penalty on the distance of the encoder to the source's weights",
    reference="Li, Grandvalet and Davoine (2018), Explicit inductive bias for transfer learning",
    stages=(full_stage(objective="anchored", holds_statistics=True),),
)
