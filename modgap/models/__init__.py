"""Models of target data, made of a target embedder, the encoder of a source and a predictor."""

from modgap.models.initialization import seeded_rng
from modgap.models.normalization import normalization_parameters
from modgap.models.target_model import TargetModel, target_model
from modgap.targets.output import Output

__all__ = ["Output", "TargetModel", "normalization_parameters", "seeded_rng", "target_model"]
