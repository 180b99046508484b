"""The answer of a discrepancy: its headline, two verdicts, checks and next step, and its table and notes."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from modgap.answers import FAIL, INFO, PASS, WARN, Answer, Mark, Table, Verdict, in_order
from modgap.answers.formatting import confidence_interval, format_interval
from modgap.discrepancy.kway import KWay
from modgap.discrepancy.repeated_rows import remarks_on_copies
from modgap.discrepancy.result import Discrepancy, Estimate
from modgap.discrepancy.verdict import (
    ENOUGH_CONTROLS,
    Evidence,
    control_finding,
    error_name,
    error_sentence,
    evidence_of_record,
    labels_finding,
    majority_finding,
    verdict,
)
from modgap.errors import can_be_typed, count, visible_name
from modgap.statistics.intervals import MIN_UNITS
from modgap.storage.json_records import Record

CLASSES_SHOWN = 12
COLUMNS = ("estimator", "held-out error", "95 % CI", "permuted", "p", "in-sample")
FEW_GROUPS = 20
"""Number of groups below which the coverage of intervals depends on how unlike the groups are."""
LABELS = {
    "yes": ("Yes", PASS),
    "no": ("No", FAIL),
    "not shown": ("Not shown", WARN),
    "unknown": ("Unknown", INFO),
    "few controls": ("Too few controls", INFO),
}
"""Label and status of each finding."""
COUNTED = {"samples": "error rate", "groups": "groups count equally", "classes": "error averaged over classes"}
CONTROL_STEP = "Compare with the same architecture with random weights, on the same samples and splits"


def answer_of_record(record: Record) -> Answer:
    """Return the answer of a record that `modgap discrepancy --json` prints, of any version, without its tables."""
    numbers = evidence_of_record(record)
    numbers = numbers.named(visible_name(record["source"] or ""), visible_name(numbers.target))
    has_no_control = numbers.control is None and not numbers.is_control and numbers.is_measured
    command = _control_command(record) if has_no_control else ""
    step = f"{CONTROL_STEP}." if command else f"{CONTROL_STEP}: repeat this with `control=3`."
    labels = labels_finding(numbers)
    sentence = f"{error_sentence(numbers)} {labels.sentence}"
    return Answer(
        question=f"How far is the knowledge of {numbers.source or 'the source'} from {numbers.target}?",
        facts=_facts(record),
        headline=f"{verdict(numbers).title}.",
        verdicts=(
            Verdict("Is it better than with permuted labels?", *LABELS[labels.status], sentence.strip()),
            _control_verdict(numbers),
        ),
        checks=in_order([*_sample_checks(record, numbers)]),
        next_step=step if has_no_control else "",
        commands=(command,) if command else (),
    )


def _facts(record: Record) -> tuple[str, ...]:
    split = (record["provenance"].get("samples") or {}).get("split")
    return (
        f"{count(record['n_samples'], 'sample')}{f' ({split} split)' if split not in (None, 'all') else ''}",
        *([count(record["n_groups"], "group")] if record["n_groups"] else []),
        f"{record['n_target_classes']:,} target classes",
        f"{record['n_source_classes']:,} source classes",
        COUNTED[record["weighting"]],
        "lower is better",
    )


def _control_verdict(numbers: Evidence) -> Verdict:
    question = "Does pretraining help?"
    if numbers.is_control:
        return Verdict(question, "Not tested", INFO, "This source is itself a random-weights control.")
    if numbers.control is None:
        text = "This run has no random-weights control, so it does not show that the pretraining is what helps."
        return Verdict(question, "Not tested", INFO, text)
    finding = control_finding(numbers)
    # One or two random initializations answer nothing about pretraining, whichever is better.
    is_few = finding.status == "no" and numbers.control.n < ENOUGH_CONTROLS
    return Verdict(question, *LABELS["few controls" if is_few else finding.status], finding.sentence)


def _control_command(record: Record) -> str:
    """Return the command that adds controls; empty where options may be missing or a name cannot be shown unchanged."""
    provenance = record["provenance"]
    embedding, head = provenance.get("embedding") or {}, provenance.get("head")
    suffix = Path(record["target"]).suffix
    is_named = suffix == ".toml" or (not suffix and "/" not in record["target"])
    if not is_named or embedding.get("embedder", "native") != "native":
        # Options that the record does not have would be missing.
        return ""
    arguments = ["modgap", "discrepancy", "--source", record["source"], "--target", record["target"]]
    if isinstance(head, dict):
        arguments += ["--head", f"probe:{head['surrogate']}"]
    for name, value in (provenance.get("options") or {}).items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    # Further options choose the same samples and splits.
    samples = provenance.get("samples") or {}
    if samples.get("split") not in (None, "all"):
        arguments += ["--split", str(samples["split"])]
    if samples.get("limit"):
        arguments += ["--limit", str(samples["limit"][0])]
    size = embedding.get("size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        arguments += ["--input-size", str(size[0])]
    if record["weighting"] != ("samples" if record["n_groups"] is None else "groups"):
        arguments += ["--weight", record["weighting"]]
    for name, default in {"splits": 20, "per_class": None, "seed": 0}.items():
        if record[name] != default:
            arguments += [f"--{name.replace('_', '-')}", str(record[name])]
    # A permutation test adds the soft error to the one estimator that was requested.
    requested = [name for name in record["estimates"] if not name.startswith("soft")] or ["soft"]
    if len(requested) == 1:
        arguments += ["--estimator", *requested]
    arguments.append("--control")
    return shlex.join(arguments) if can_be_typed(*arguments) else ""


def _sample_checks(record: Record, numbers: Evidence) -> Iterator[Verdict]:
    """Yield checks by the baseline and of the samples: copies, samples that are left out, and few groups."""
    finding = majority_finding(numbers)
    if finding.sentence:
        status = {"yes": PASS, "no": FAIL}.get(finding.status, WARN)
        text = f"The {error_name(numbers.estimator)} is {numbers.held_out:.3f}. {finding.sentence}"
        yield Verdict("Majority-class baseline", "", status, text)
    n_samples = record["n_samples"]
    for text in remarks_on_copies(record.get("n_repeated", 0), record.get("n_copies", 0), n_samples):
        yield Verdict("Equal samples", "", WARN, text)
    if record["unlabeled"]:
        left_out = "is left out" if record["unlabeled"] == 1 else "are left out"
        yield Verdict("Labels", "", INFO, f"{count(record['unlabeled'], 'sample')} without a label {left_out}.")
    if 0 < record["untested"] < n_samples and numbers.held_out is not None:
        text = (
            f"Held-out errors, chance level and baseline are over {numbers.n_tested_classes} of {numbers.n_classes} "
            "classes. Samples of the other classes are left out, because these have only one sample or group "
            f"({count(record['untested'], 'sample')}, {100 * record['untested'] / n_samples:.1f} %)."
        )
        yield Verdict("Small classes", "", WARN, text)
    n_groups = record["n_groups"]
    if n_groups is not None and MIN_UNITS <= n_groups < FEW_GROUPS and record["splits"]:
        text = (
            f"There are {n_groups} groups. With fewer than {FEW_GROUPS}, 95 % intervals of the soft error covered 92 "
            "to 100 % in simulations."
        )
        yield Verdict("Few groups", "", WARN, text)


def table(result: Discrepancy) -> Table:
    """Return one row per estimator, and rows of the levels to compare with; a dash stands for what was not computed."""
    rows = [
        (_row(name, one), None if one.held_out is None else Mark(one.held_out, one.held_out_interval))
        for name, one in result.estimates.items()
    ]
    control = result.control
    if control:
        cells = [f"control ({control.estimator})", f"{control.held_out:.3f}"]
        cells += [format_interval(control.interval, between="-"), *"---"]
        rows.append((cells, Mark(control.held_out, control.interval, is_reference=True)))
    levels = {"permuted labels": result.permuted_error, "majority class": result.prior, "chance level": result.chance}
    # All levels are shares of wrong samples, which a soft error is not.
    has_levels = not all(name.startswith("soft") for name in result.estimates)
    for name, level in levels.items():
        if level is not None and has_levels:
            rows.append(([name, f"{level:.3f}", *"----"], Mark(level, is_reference=True)))
    return Table(
        COLUMNS,
        [cells for cells, _ in rows],
        note="The dashed line is the chance level. Squares are levels to compare with." if has_levels else "",
        marks=[mark for _, mark in rows],
        reference=result.chance if has_levels else None,
    )


def _row(name: str, estimate: Estimate) -> list[str]:
    null = estimate.held_out_null
    return [
        name,
        f"{estimate.held_out:.3f}" if estimate.held_out is not None else "-",
        format_interval(estimate.held_out_interval, between="-"),
        f"{null.mean:.3f} ± {null.sd:.3f}" if null else "-",
        f"{null.p_value:.3f}" if null else "-",
        f"{estimate.solution.value:.3f}",
    ]


def notes(result: Discrepancy, pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines below the table: splits, measures, confidence, k-way estimates and the best map.

    Args:
        result: The estimates.
        pairs: Pairs (target class, source class) of the best map, by name; empty without a map.
    """
    if any(estimate.held_out is not None for estimate in result.estimates.values()):
        fitted = f"{result.per_class} samples per class" if result.per_class else "one half of the samples"
        groups = " Splits and permutations take the groups into account." if result.n_groups else ""
        are_means = "come from 1 split" if result.splits == 1 else f"are means over {result.splits:,} splits"
        yield f"Held-out errors {are_means}; maps are fitted on {fitted}.{groups}"
    elif not result.splits and not result.k_way:
        yield "No samples were held out."
    for name, estimate in result.estimates.items():
        for measure, value in estimate.measures.items():
            yield f"{measure} of the map of {name}: {value:.4f}"
    if result.relative_entropy is not None:
        yield f"Mean entropy of the source's output: {result.relative_entropy:.2f} of its maximum, log C."
    if result.leep is not None:
        interval = result.leep_interval
        shown = f" (95 % CI {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        yield f"Cross-validated LEEP: {result.leep:.3f} nats{shown}; higher is better."
    if result.k_way:
        yield from _k_way_lines(result.k_way)
    if pairs:
        shown = "; ".join(f"{target} = {source.split(',')[0]}" for target, source in pairs[:CLASSES_SHOWN])
        rest = f"; and {len(pairs) - CLASSES_SHOWN} more" if len(pairs) > CLASSES_SHOWN else ""
        yield f"Best map ({result.best_estimator}): {shown}{rest}"


def _k_way_lines(k_way: KWay) -> Iterator[str]:
    yield (
        f"{k_way.classes} classes at a time ({k_way.choices} random choices, maps fitted on {k_way.per_class} samples "
        f"per class; chance level {k_way.chance:.3f}):"
    )
    for name, estimate in k_way.estimates.items():
        parts = []
        if estimate.held_out is not None:
            parts.append(
                f"held-out error {estimate.held_out:.3f}{confidence_interval(estimate.held_out_interval, between='-')}"
            )
        if estimate.value is not None:
            parts.append(
                f"error on all samples {estimate.value:.3f}{confidence_interval(estimate.interval, between='-')}"
            )
        yield f"  {name}: {', '.join(parts)}"
