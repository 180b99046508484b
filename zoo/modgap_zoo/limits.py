"""Limits of what the readers of the zoo render and its clients do, and the variable that raises each."""

from modgap.storage.limits import Limit

RENDERED_SAMPLES = Limit(
    "MODGAP_MAX_RENDERED", 100_000, "samples", "Images or sounds that a reader renders from fonts or with programs."
)
RENDERED_BYTES = Limit(
    "MODGAP_MAX_RENDERED_BYTES", 4_000_000_000, "bytes", "Size of all samples that a reader renders, as arrays."
)
RENDERING_SECONDS = Limit(
    "MODGAP_MAX_RENDERING_SECONDS",
    60,
    "seconds",
    "Time of a program that renders the notes of one instrument, or speaks one text.",
)
CLIENT_SECONDS = Limit(
    "MODGAP_MAX_CLIENT_SECONDS",
    3_600,
    "seconds",
    "Time of pip, apt-get or npm for the download of the file of a package.",
)
LIMITS = tuple(value for value in [*globals().values()] if isinstance(value, Limit))
"""All limits, in the order of the documentation."""
