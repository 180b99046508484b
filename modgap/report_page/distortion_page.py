"""Page of a distortion: how much of a source's knowledge is lost by training on a target."""

from collections.abc import Mapping
from typing import Any

from modgap.distortion.answer import answer_of_record
from modgap.formatting import count
from modgap.report_page.rendering import render_answer

__all__ = ["render_distortion"]

DEFINITIONS = (
    (
        "Distortion",
        "Labeled data of the source's own modality goes through an encoder before and after training on the "
        "target. A probe on the features shows how much of the source's knowledge is left.",
    ),
    ("Probe error", "This is the error rate of the probe on test samples. A lower error means more knowledge."),
    (
        "Difference to the untouched encoder",
        "Both probes are tested on the same samples. A positive difference means that knowledge is lost.",
    ),
)


def render_distortion(record: Mapping[str, Any], record_name: str = "distortion.json") -> str:
    """Render the page of a distortion.

    Args:
        record: Record that `modgap distortion --json` prints.
        record_name: Name of the file that the record comes from.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    n_encoders = sum(len(surrogate["encoders"]) for surrogate in record["surrogates"])
    summary = f"{count(n_encoders, 'encoder')}, {record['seconds']:.1f} s"
    settings = [("Source", record["source"]), *record["request"].items()]
    return render_answer(record, record_name, answer_of_record, DEFINITIONS, summary, settings)
