"""Modality knowledge discrepancy (Definition 2.1 of MoNA, ICML 2024) and its estimators."""

from modgap.discrepancy.assignment import Assignment, assignment
from modgap.discrepancy.bounds import LowerBound, lower_bound, upper_bound
from modgap.discrepancy.distances import MEASURES, map_discrepancy
from modgap.discrepancy.estimate import ESTIMATORS, estimate, held_out_samples
from modgap.discrepancy.kway import KWay
from modgap.discrepancy.montecarlo import MonteCarlo, montecarlo
from modgap.discrepancy.result import Bounds, Discrepancy, Estimate, TestedSamples
from modgap.discrepancy.search import Search, search
from modgap.discrepancy.soft import SoftMap
from modgap.labels.label_space import LabelSpace, label_space, pseudo_classes
from modgap.statistics.permutations import NullDistribution

__all__ = [
    "ESTIMATORS",
    "MEASURES",
    "Assignment",
    "Bounds",
    "Discrepancy",
    "Estimate",
    "KWay",
    "LabelSpace",
    "LowerBound",
    "MonteCarlo",
    "NullDistribution",
    "Search",
    "SoftMap",
    "TestedSamples",
    "assignment",
    "estimate",
    "held_out_samples",
    "label_space",
    "lower_bound",
    "map_discrepancy",
    "montecarlo",
    "pseudo_classes",
    "search",
    "upper_bound",
]
