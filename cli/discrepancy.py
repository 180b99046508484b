"""The command `modgap discrepancy`."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.discrepancy_options import discrepancy_options
from modgap.cli.groups import example
from modgap.cli.options import (
    CUSTOM_DATA_FIELDS,
    check_figure_formats,
    check_minimums,
    custom_data_from_options,
    sample_request,
)
from modgap.cli.output import log_to_stderr, print_result, progress_bars
from modgap.errors import UsageError, check_maximum
from modgap.forward.sample_request import SampleRequest
from modgap.process.resources import MOST_THREADS

if TYPE_CHECKING:
    from modgap.answers import Plotted
    from modgap.errors import Progress

NOT_OF_LOGITS = {
    *(field.name for field in fields(SampleRequest) if field.name != "seed"),
    *("source", "target", "weights", "head", "embedder", "pseudo_classes", "data_dir", "control"),
    *CUSTOM_DATA_FIELDS,
}
"""Options that do not apply to --logits, because the logits are already computed."""
OF_COMMAND = {"logits", "out", "formats", "as_json", "quiet", *CUSTOM_DATA_FIELDS}
"""Options that are no arguments of `modgap.measure`, because the command uses them or they are in `custom_data`."""
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
    from modgap.storage.locks import output_folder

    _check_options(context, values)
    log_to_stderr(values["quiet"])
    # The folder is created before the work starts, so that a folder that cannot be written to fails at once.
    with output_folder(values["out"]) as folder:
        with progress_bars(values["quiet"]) as progress:
            result = _measure(values, progress)
        print_result(result, folder, values["formats"], as_json=values["as_json"])


def _check_options(context: click.Context, values: dict[str, Any]) -> None:
    """Raise if options are missing, out of range or would be ignored, before anything is loaded."""
    check_figure_formats(context, values["out"])
    from_user = {
        name for name in values if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    }
    if values["logits"]:
        ignored = sorted(from_user & NOT_OF_LOGITS)
        if ignored:
            raise UsageError(f"`{ignored[0]}` does not apply to --logits, because the logits are already computed.")
    elif not values["source"] or not values["target"]:
        raise UsageError("Pass --source and --target, or --logits. See modgap discrepancy --help.")
    sample_request(values)
    check_minimums(values, MINIMUMS)
    check_maximum("threads", values["threads"], MOST_THREADS)
    for option, estimator in (("subsets", "assignment"), ("restarts", "search")):
        if option in from_user and values["estimators"] not in ("all", estimator):
            raise UsageError(f"--{option} applies to --estimator {estimator}, not to {values['estimators']}.")
    if "temperature" in from_user and values["measures"] == ("zero-one",):
        raise UsageError("--temperature does not apply to --measure zero-one. Add another --measure.")
    if not values["temperature"] > 0:
        raise UsageError(f"--temperature is {values['temperature']}, but it must be above 0.")


def _measure(values: dict[str, Any], progress: "Progress | None") -> "Plotted":
    """Measure the discrepancy from a file of logits or from a source and a target, as the options say."""
    from modgap.api.discrepancy import measure, measure_logits_file

    arguments = {name: value for name, value in values.items() if name not in OF_COMMAND}
    arguments["measures"] = [name for name in values["measures"] if name != "zero-one"]
    arguments["estimators"] = None if values["estimators"] == "all" else values["estimators"]
    if values["logits"]:
        settings = {name: value for name, value in arguments.items() if name not in NOT_OF_LOGITS}
        return measure_logits_file(values["logits"], progress=progress, **settings)
    arguments["embedder"] = None if values["embedder"] == "native" else values["embedder"]
    arguments["data_dir"] = values["data_dir"] or None
    return measure(**arguments, custom_data=custom_data_from_options(values), progress=progress)
