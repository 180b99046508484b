"""The evidence: how well rankings choose, and what methods of transfer do, on targets that no choice has seen."""
