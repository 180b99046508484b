"""The command `modgap discrepancy`."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import complete_embedders, complete_files, heads_completer
from modgap.cli.groups import example
from modgap.cli.options import (
    CUSTOM_DATA_FIELDS,
    Options,
    batch_size_option,
    check_figure_formats,
    check_minimums,
    custom_data_from_options,
    custom_data_options,
    device_option,
    dtype_option,
    input_size_option,
    loader_workers_option,
    option,
    option_group,
    output_options,
    representation_option,
    sample_options,
    sample_request,
    seed_option,
    source_option,
    target_option,
    weight_option,
    weights_option,
)
from modgap.cli.output import log_to_stderr, print_result, progress_bars
from modgap.errors import CUSTOM_DATA_FORMATS, Progress, UsageError, check_maximum
from modgap.forward.sample_request import SampleRequest
from modgap.process.resources import MOST_THREADS

if TYPE_CHECKING:
    from modgap.answers import Plotted

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
    "classes": 2,
    "per_class": 1,
    "per_group": 1,
    "splits": 0,
    "permutations": 0,
    "control": 0,
    "pseudo_classes": 2,
    "threads": 1,
}
"""Smallest allowed values of the options that the request for samples does not check."""


@cloup.command(epilog=example("modgap discrepancy --source efficientnet-lite0 --target digits"))
@option_group(
    "Source and target",
    source_option(
        "Source model: a short name (modgap sources lists them), timm:NAME, hf:NAME, PREFIX:NAME of a plug-in, or "
        "a folder. With random: in front, it is the same architecture with random weights, as a control.",
        required=False,
    ),
    target_option(f"Target data: a name (modgap targets lists them), {CUSTOM_DATA_FORMATS}.", required=False),
    option(
        "--logits",
        metavar="FILE",
        shell_complete=complete_files,
        help="Use the logits in this file instead of a source and a target: a .npz, .safetensors or .pt file with "
        "logits (N, C) and labels (N,), logits.npy with labels.npy beside it, or a .csv or .parquet file with a "
        "column of labels.",
    ),
    weights_option,
)
@sample_options(default_limit=None)
@custom_data_options
@option_group(
    "How samples pass through the source",
    input_size_option,
    representation_option,
    option(
        "--embedder",
        metavar="native|RUN_DIR",
        default="native",
        shell_complete=complete_embedders,
        help="Embedder in front of the encoder: native for the source's, or the folder of a modgap train run for "
        "the embedder that it trained. Samples that the run was trained on are left out.",
    ),
    option(
        "--head",
        metavar="NAME",
        default="own",
        shell_complete=heads_completer("own"),
        help="Classification head: own for the source's head, or probe:SURROGATE to fit a linear probe for a bare "
        "encoder.",
    ),
)
@option_group(
    "Estimators",
    option(
        "--estimator",
        "estimators",
        type=click.Choice(["montecarlo", "search", "soft", "all"]),
        default="all",
        help="Estimator to run.",
    ),
    option("--trials", default=100_000, help="Number of random maps for montecarlo."),
    option(
        "--classes",
        type=int,
        metavar="K",
        help="Also compare K target classes at a time. This also works if the target has more classes than the source.",
    ),
    option(
        "--per-class",
        type=int,
        metavar="N",
        help="Fit maps on N samples of each class, so that targets of different size are comparable.",
    ),
    option(
        "--measure",
        "measures",
        multiple=True,
        default=("zero-one",),
        type=click.Choice(["zero-one", "brier", "hellinger", "jensen-shannon", "kl", "total-variation"]),
        help="Also report this measure for the map of each estimator. Can be repeated.",
    ),
    option("--temperature", default=1.0, help="Temperature of the softmax that --measure is computed from."),
)
@option_group(
    "Statistics",
    weight_option,
    option(
        "--per-group",
        type=int,
        metavar="N",
        help="Use N samples of each group. The permutation test is then exact if group sizes depend on the class.",
    ),
    option(
        "--splits",
        default=20,
        help="Number of repeated splits of the samples into a part to fit on and a part to test on.",
    ),
    option(
        "--permutations",
        default=99,
        help="Largest number of permutations of the labels. The test stops at the tenth value that is at or below "
        "the real one. 0 makes no test.",
    ),
    option(
        "--permutations-for",
        type=click.Choice(["soft", "search", "montecarlo"]),
        default="soft",
        help="Estimator that the permutation test is made with.",
    ),
    option(
        "--permutations-by",
        type=click.Choice(["shuffle", "shifts"]),
        default="shuffle",
        help="How labels move inside a group of several classes: shuffled, or shifted along its samples if these "
        "are in the order of time.",
    ),
    option(
        "--control",
        type=int,
        is_flag=False,
        flag_value=3,
        show_default=False,
        default=0,
        metavar="[N]",
        help="Compare with N random-weights controls of the source (3 without a number), sample by sample. Fewer "
        "than 3 do not show whether pretraining helps.",
    ),
    seed_option,
)
@option_group(
    "Hardware",
    device_option,
    dtype_option,
    batch_size_option,
    loader_workers_option,
    option(
        "--threads",
        type=int,
        help="Number of threads for the estimators. The default is one per idle core. Results do not depend on it.",
    ),
)
@output_options("Write result.json and figures to this folder.")
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


def _check_options(context: click.Context, values: Options) -> None:
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
    if "temperature" in from_user and values["measures"] == ("zero-one",):
        raise UsageError("--temperature does not apply to --measure zero-one. Add another --measure.")
    if not values["temperature"] > 0:
        raise UsageError(f"--temperature is {values['temperature']}, but it must be above 0.")


def _measure(values: Options, progress: Progress | None) -> "Plotted":
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
