"""`modgap discrepancy`."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.discrepancy_options import discrepancy_options
from modgap.cli.groups import example
from modgap.cli.options import (
    CUSTOM_DATA_OPTIONS,
    check_figure_formats,
    check_minimums,
    custom_data_from_options,
    sample_request,
)
from modgap.errors import UsageError, check_maximum
from modgap.forward.sample_request import SampleRequest
from modgap.resources import MOST_THREADS

if TYPE_CHECKING:
    from modgap.discrepancy.report import DiscrepancyReport
    from modgap.progress import Progress

__all__ = ["discrepancy"]

SAMPLE_OPTIONS = {field.name for field in fields(SampleRequest)} - {"seed"}
SOURCE_OPTIONS = {
    "source",
    "target",
    "weights",
    "head",
    "embedder",
    "pseudo_classes",
    "data_dir",
    "control",
    *CUSTOM_DATA_OPTIONS,
}
"""Options that do not apply to --logits, because the logits are already computed."""
MINIMUMS = {
    "trials": 1,
    "subsets": 0,
    "restarts": 0,
    "classes": 2,
    "per_class": 1,
    "per_group": 1,
    "splits": 0,
    "permutations": 0,
    "control": 0,
    "bound_seconds": 0,
    "pseudo_classes": 2,
    "threads": 1,
}
"""Smallest allowed values of the options that the request for samples does not check."""


@cloup.command(epilog=example("modgap discrepancy --source efficientnet-lite0 --target digits"))
@discrepancy_options
@click.pass_context
def discrepancy(context: click.Context, /, **values: Any) -> None:
    """Estimate how far a source model's knowledge is from target data.

    Lower values mean that the source is closer to the target. Compare the held-out error with the chance level and
    with other sources. The lowest error over random maps is optimistic, so compare it with its null distribution.
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.storage.locks import output_folder

    _check_options(context, values)
    samples = sample_request(values)
    log_to_stderr(values["quiet"])
    # The folder is created before the work starts, so that a folder that cannot be written to fails at once.
    with output_folder(values["out"]) as folder:
        with progress_bars(values["quiet"]) as progress:
            report = _measure(values, samples, progress)
        _write_report(report, folder, values)


def _write_report(report: "DiscrepancyReport", folder: Path | None, values: dict[str, Any]) -> None:
    """Write the results to the folder and print them, and then draw the figures."""
    from modgap.cli.output import draw_figures, print_answer, print_written
    from modgap.discrepancy.report import write_results
    from modgap.storage.json_records import format_json

    if folder:
        print_written(write_results(report, folder))
    if values["as_json"]:
        click.echo(format_json(report.to_dict()))
    else:
        print_answer(report.answer)
    if folder:
        from modgap.discrepancy.figures import planned_figures

        draw_figures(planned_figures(report), folder, values["formats"])


def _check_options(context: click.Context, values: dict[str, Any]) -> None:
    """Raise if an option is out of range or would be ignored, before anything is loaded."""
    check_figure_formats(context, values["out"])
    from_user = {
        name for name in values if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    }
    if values["logits"]:
        ignored = sorted(from_user & (SAMPLE_OPTIONS | SOURCE_OPTIONS))
        if ignored:
            option = f"--{ignored[0].replace('_', '-')}"
            raise UsageError(f"{option} does not apply to --logits, because the logits are already computed.")
    elif not values["source"] or not values["target"]:
        raise UsageError("Pass --source and --target, or --logits. See modgap discrepancy --help.")
    check_minimums(values, MINIMUMS)
    check_maximum("--threads", values["threads"], MOST_THREADS)
    for option, estimator in (("subsets", "assignment"), ("restarts", "search")):
        if option in from_user and values["estimator"] not in ("all", estimator):
            raise UsageError(f"--{option} applies to --estimator {estimator}, not to {values['estimator']}.")
    if "temperature" in from_user and values["measures"] == ("zero-one",):
        raise UsageError("--temperature does not apply to --measure zero-one. Add another --measure.")
    if not values["temperature"] > 0:
        raise UsageError(f"--temperature is {values['temperature']}, but it must be above 0.")


def _measure(values: dict[str, Any], samples: SampleRequest, progress: "Progress | None") -> "DiscrepancyReport":
    from modgap.api.discrepancy import measure_discrepancy, measure_logits_file
    from modgap.forward.logits import LogitsRequest

    settings = _estimator_settings(values)
    if values["logits"]:
        return measure_logits_file(values["logits"], progress=progress, **settings)
    return measure_discrepancy(
        values["source"],
        values["target"],
        weights=values["weights"],
        custom_data=custom_data_from_options(values),
        data_dir=Path(values["data_dir"]) if values["data_dir"] else None,
        embedder=None if values["embedder"] == "native" else values["embedder"],
        pseudo_classes=values["pseudo_classes"],
        request=LogitsRequest(samples, head=values["head"], compared=values["classes"]),
        progress=progress,
        control=values["control"],
        **settings,
    )


def _estimator_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of `modgap.discrepancy.estimate`."""
    settings = {
        "trials": values["trials"],
        "subsets": values["subsets"],
        "restarts": values["restarts"],
        "classes": values["classes"],
        "per_class": values["per_class"],
        "per_group": values["per_group"],
        "weight": values["weight"],
        "splits": values["splits"],
        "permutations": values["permutations"],
        "permutations_for": values["permutations_for"],
        "permutations_by": values["permutations_by"],
        "measures": [name for name in values["measures"] if name != "zero-one"],
        "temperature": values["temperature"],
        "bound_seconds": values["bound_seconds"],
        "seed": values["seed"],
        "threads": values["threads"],
    }
    if values["estimator"] != "all":
        settings["estimators"] = [values["estimator"]]
    return settings
