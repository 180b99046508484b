"""Ranking of sources for one or several targets with intervals, and comparison of systems by their errors."""
