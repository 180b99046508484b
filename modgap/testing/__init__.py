"""Checks that the author of a plug-in runs in the plug-in's own tests.

Each function raises `AssertionError` with one sentence that says what is wrong and what modgap expects. It needs the
plug-in to be installed, except for those that take an object.

Example:
    >>> from modgap.testing import check_score
    >>> check_score("leep")
"""

from modgap.testing.baselines import check_baseline
from modgap.testing.methods import check_method
from modgap.testing.representations import check_representation
from modgap.testing.scores import check_score
from modgap.testing.sources import check_prefix, check_source
from modgap.testing.targets import check_client, check_manifest, check_reader

__all__ = [
    "check_baseline",
    "check_client",
    "check_manifest",
    "check_method",
    "check_prefix",
    "check_reader",
    "check_representation",
    "check_score",
    "check_source",
]
