"""Modality knowledge discrepancy (Definition 2.1 of MoNA, ICML 2024) and its estimators."""

from modgap.discrepancy.assignment import Assignment, assignment
from modgap.discrepancy.bounds import LowerBound, lower_bound, upper_bound
from modgap.discrepancy.distances import MEASURES, map_discrepancy
from modgap.discrepancy.estimate import estimate
from modgap.discrepancy.estimator_chain import ESTIMATORS, HeldOut
from modgap.discrepancy.held_out import NullDistribution
from modgap.discrepancy.kway import KWay
from modgap.discrepancy.montecarlo import MonteCarlo, montecarlo
from modgap.discrepancy.result import Bounds, Discrepancy, Estimate
from modgap.discrepancy.search import Search, search
from modgap.label_space import LabelSpace, label_space, pseudo_classes

__all__ = [
    "ESTIMATORS",
    "MEASURES",
    "Assignment",
    "Bounds",
    "Discrepancy",
    "Estimate",
    "HeldOut",
    "KWay",
    "LabelSpace",
    "LowerBound",
    "MonteCarlo",
    "NullDistribution",
    "Search",
    "assignment",
    "estimate",
    "label_space",
    "lower_bound",
    "map_discrepancy",
    "montecarlo",
    "pseudo_classes",
    "search",
    "upper_bound",
]
