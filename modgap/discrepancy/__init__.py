"""Modality knowledge discrepancy (Definition 2.1 of MoNA, ICML 2024) and its estimators."""

from modgap.discrepancy.distances import map_discrepancy
from modgap.discrepancy.estimate import estimate, held_out_samples
from modgap.discrepancy.result import Estimate, TestedSamples
from modgap.discrepancy.search import Search, search
from modgap.labels.label_space import label_space, pseudo_classes

__all__ = [
    "Estimate",
    "Search",
    "TestedSamples",
    "estimate",
    "held_out_samples",
    "label_space",
    "map_discrepancy",
    "pseudo_classes",
    "search",
]
