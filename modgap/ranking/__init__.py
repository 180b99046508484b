"""Ranking of sources for a target by transferability scores with confidence intervals."""
