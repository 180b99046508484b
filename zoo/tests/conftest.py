"""The fixtures of the core's tests, for the tests of the zoo."""

from tests.conftest import (
    at,
    default_log_level,
    librosa_without_compilation,
    modgap,
    modgap_process,
    own_logits,
    serve,
    small_disk,
    small_images,
)

__all__ = [
    "at",
    "default_log_level",
    "librosa_without_compilation",
    "modgap",
    "modgap_process",
    "own_logits",
    "serve",
    "small_disk",
    "small_images",
]
