"""Names of the transferability scores in the order in which they are shown. Importing this module is fast."""

SCORE_ORDER = (
    "discrepancy",
    "soft",
    "soft-matched",
    "discrepancy-ratio",
    "discrepancy-montecarlo",
    "leep",
    "leep-held-out",
    "nce",
    "n-leep",
    "logme",
    "h-score",
    "h-score-shrunk",
    "transrate",
    "gbc",
    "parc",
    "linear-probe",
    "knn",
    "otdd",
    "entropy",
    "size",
    "source-error",
)
"""Order in which scores are shown. Scores that are not listed follow in alphabetical order."""
