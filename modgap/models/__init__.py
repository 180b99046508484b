"""Models of target data: a target embedder, a source's encoder, a predictor."""

from modgap.models.normalisation import normalisation_parameters
from modgap.models.predictors import Output
from modgap.models.starting import seeded, stretched
from modgap.models.target_model import TargetModel, target_model

__all__ = [
    "Output",
    "TargetModel",
    "normalisation_parameters",
    "seeded",
    "stretched",
    "target_model",
]
