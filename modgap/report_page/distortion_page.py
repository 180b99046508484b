"""Page of a distortion: how much of a source's knowledge is lost by training on a target."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from modgap.distortion.display_names import display_name
from modgap.distortion.summary import corrected_p_values
from modgap.formatting import count, format_error, visible_name
from modgap.report_page.few_shot_table import few_shot_table
from modgap.report_page.measurements import Measurement, measurement_table, p_number, p_text, value_with_interval
from modgap.report_page.rendering import Card, Row, render_template

__all__ = ["render_distortion"]

SIGNIFICANCE_LEVEL = 0.05
MAX_NAMES = 4
"""Most encoders with a check of their own."""


def render_distortion(record: Mapping[str, Any], record_name: str = "distortion.json") -> str:
    """Render the page of a distortion.

    Args:
        record: Record that `modgap distortion --json` prints.
        record_name: Name of the file that the record comes from.

    Returns:
        The HTML text. It loads nothing from outside.
    """
    surrogates = record["surrogates"]
    n_encoders = sum(len(surrogate["encoders"]) for surrogate in surrogates)
    values = {
        "title": f"How much knowledge of {visible_name(record['source'])} is lost by training on the target?",
        "facts": [
            *[f"{_surrogate_name(one)}: {count(one['test_samples'], 'test sample')}" for one in surrogates],
            "probe error (lower is better)",
            f"modgap {record['provenance']['modgap']}",
        ],
        "card": _card(surrogates),
        "version": record["provenance"]["modgap"],
        "record_name": record_name,
        "measurement_tables": [_surrogate_table(surrogate) for surrogate in surrogates],
        "confusion": None,
        "few_shot_tables": [table for one in surrogates if (table := _few_shot_table(one))],
        "plain_tables": [_similarity_table(one) for one in surrogates if _similarity_names(one)],
        "definitions": _definitions(),
        "run_summary": f"{count(n_encoders, 'encoder')}, {record['seconds']:.1f} s",
        "settings": [("Source", record["source"]), *record["request"].items()],
    }
    return render_template("measurements.html.j2", values)


def _surrogate_name(surrogate: Mapping[str, Any]) -> str:
    return visible_name(PurePath(surrogate["name"]).name or surrogate["name"])


def _first_probe(encoder: Mapping[str, Any]) -> Mapping[str, Any]:
    probe: Mapping[str, Any] = next(iter(encoder["probes"].values()))
    return probe


def _trained(surrogates: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the surrogate and the encoder of each trained encoder, with the largest loss first.

    The p-values of their differences are corrected for their number, as in the answer of the command.
    """
    pairs = [
        (surrogate, encoder)
        for surrogate in surrogates
        for encoder in surrogate["encoders"]
        if encoder["run"] and encoder["difference"]
    ]
    p_values = corrected_p_values([encoder["difference"]["p_value"] for _, encoder in pairs])
    corrected = [
        (surrogate, {**encoder, "difference": {**encoder["difference"], "p_value": p_value}})
        for (surrogate, encoder), p_value in zip(pairs, p_values, strict=True)
    ]
    return sorted(corrected, key=lambda pair: -float(pair[1]["difference"]["value"]))


def _is_significant(encoder: Mapping[str, Any]) -> bool:
    p_value = encoder["difference"]["p_value"]
    return p_value is not None and bool(p_value <= SIGNIFICANCE_LEVEL)


def _is_worse(encoder: Mapping[str, Any]) -> bool:
    return bool(encoder["difference"]["value"] > 0)


def _card(surrogates: Sequence[Mapping[str, Any]]) -> Card:
    trained = _trained(surrogates)
    if not trained:
        text = "No trained encoder was compared with the untouched one. Pass the folder of a trained model to --run."
        confidences = [Row(question, "Not tested", "info", text) for question in QUESTIONS]
        return Card("This run has no trained encoder, so it does not show a loss.", confidences)
    lost = [pair for pair in trained if _is_significant(pair[1]) and _is_worse(pair[1])]
    checks = [_encoder_check(surrogate, encoder) for surrogate, encoder in trained[:MAX_NAMES] if _is_worse(encoder)]
    return Card(_headline(lost, trained), [_significance(lost, trained), _comparison(trained)], checks)


QUESTIONS = ("Is the loss significant?", "Is it more than for the untouched encoder?")


def _headline(lost: Sequence[Any], trained: Sequence[Any]) -> str:
    if not lost:
        return "This run shows no significant loss of source knowledge."
    if len(lost) == len(trained):
        return "Training on the target loses source knowledge."
    return f"Source knowledge is lost in {len(lost)} of {len(trained)} comparisons."


def _significance(lost: Sequence[Any], trained: Sequence[Any]) -> Row:
    label, status = ("Yes", "fail") if lost else ("Not shown", "info")
    verb = "shows" if len(trained) == 1 else "show"
    text = (
        f"{len(lost)} of {count(len(trained), 'comparison')} with the untouched encoder {verb} a significantly higher "
        f"probe error (paired over splits and samples or groups, at the 5 % level{_correction(trained)})."
    )
    return Row(QUESTIONS[0], label, status, text)


def _correction(trained: Sequence[Any]) -> str:
    return f", corrected by Holm for {count(len(trained), 'comparison')}" if len(trained) > 1 else ""


def _comparison(trained: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Row:
    surrogate, encoder = trained[0]
    probe = _first_probe(encoder)
    difference = encoder["difference"]
    label, status = ("Not significantly", "info") if _is_worse(encoder) else ("No", "pass")
    if _is_worse(encoder) and _is_significant(encoder):
        label, status = "Yes", "warn"
    text = (
        f"The largest difference is that of {visible_name(encoder['encoder'])} on {_surrogate_name(surrogate)}: its "
        f"probe error is {format_error(probe['value'])}, and the difference to the untouched encoder is "
        f"{value_with_interval(difference['value'], difference['interval'])}."
    )
    return Row(QUESTIONS[1], label, status, text)


def _encoder_check(surrogate: Mapping[str, Any], encoder: Mapping[str, Any]) -> Row:
    difference = encoder["difference"]
    error = value_with_interval(_first_probe(encoder)["value"], _first_probe(encoder)["interval"])
    significant = _is_significant(encoder)
    status = "fail" if significant else "info"
    verdict = "significant" if significant else "not significant"
    text = (
        f"On {_surrogate_name(surrogate)} the probe error is {error}. The difference to the untouched encoder is "
        f"{format_error(difference['value'])}, which is {verdict} ({_p_value_text(difference['p_value'])})."
    )
    return Row(visible_name(encoder["encoder"]), "", status, text)


def _p_value_text(p_value: float | None) -> str:
    return "too few groups for a p-value" if p_value is None else p_text(p_value)


def _surrogate_table(surrogate: Mapping[str, Any]) -> dict[str, Any]:
    probe = display_name(next(iter(surrogate["encoders"][0]["probes"])))
    note = (
        f"The probe is fitted on {surrogate['training_samples']:,} samples and tested on "
        f"{surrogate['test_samples']:,}, in repeated cross-validation. Always predicting the largest class has an "
        f"error of {format_error(surrogate['baseline_error'])}. The dashed line is the untouched encoder."
    )
    heads = ("Encoder", f"{probe} error (95 % CI)", "Minus untouched (95 % CI)", "p")
    untouched = next((_first_probe(one)["value"] for one in surrogate["encoders"] if not one["difference"]), None)
    return measurement_table(_surrogate_name(surrogate), heads, list(_measurements(surrogate)), note, untouched)


def _measurements(surrogate: Mapping[str, Any]) -> Iterator[Measurement]:
    for encoder in surrogate["encoders"]:
        probe = _first_probe(encoder)
        difference = encoder["difference"]
        cells = ["–", "–"]
        if difference:
            shown = value_with_interval(difference["value"], difference["interval"]).replace("95 % CI ", "")
            p_value = difference["p_value"]
            cells = [shown, "–" if p_value is None else p_number(p_value)]
        name = visible_name(encoder["encoder"])
        yield Measurement(name, probe["value"], probe["interval"], is_reference=not encoder["run"], cells=cells)


def _few_shot_table(surrogate: Mapping[str, Any]) -> dict[str, Any] | None:
    return few_shot_table(f"Few-shot curves on {_surrogate_name(surrogate)}", surrogate["encoders"])


def _similarity_names(surrogate: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for encoder in surrogate["encoders"] for name in encoder["similarity"]))


def _similarity_table(surrogate: Mapping[str, Any]) -> dict[str, Any]:
    names = _similarity_names(surrogate)
    rows = [
        [visible_name(encoder["encoder"]), *(_last_layer(encoder["similarity"].get(name, {})) for name in names)]
        for encoder in surrogate["encoders"]
        if encoder["similarity"]
    ]
    return {
        "title": f"Similarity to the untouched encoder on {_surrogate_name(surrogate)}",
        "heads": ["Encoder", *map(display_name, names)],
        "rows": rows,
        "note": "The values are of the last layer that was measured.",
    }


def _last_layer(layers: Mapping[str, Any]) -> str:
    values = list(layers.values())
    return format_error(values[-1]["value"]) if values else "–"


def _definitions() -> list[tuple[str, str]]:
    return [
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
    ]
