"""Modality knowledge discrepancy: Definition 2.1 of MoNA (ICML 2024) and ways to estimate it."""

from modgap.discrepancy.estimate import Discrepancy, Estimate, estimate
from modgap.discrepancy.halves import HeldOut, Null
from modgap.discrepancy.montecarlo import MonteCarlo

__all__ = ["Discrepancy", "Estimate", "HeldOut", "MonteCarlo", "Null", "estimate"]
