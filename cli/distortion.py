"""The command `modgap distortion`."""

import glob
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import complete_folders, complete_sources, complete_targets, names_completer
from modgap.cli.groups import example
from modgap.cli.options import (
    batch_size_option,
    check_figure_formats,
    check_minimums,
    device_option,
    dtype_option,
    input_size_option,
    option,
    option_group,
    output_options,
    sample_request,
    source_option,
    weights_option,
)
from modgap.cli.output import log_to_stderr, print_result, progress_bars
from modgap.errors import UsageError, check_maximum
from modgap.process.resources import MOST_THREADS

if TYPE_CHECKING:
    from modgap.distortion.encoders import Epochs


@cloup.command(epilog=example("modgap distortion --source vit-fashion --run run --out distortion"))
@option_group(
    "Source and runs",
    source_option("Source model, as for modgap discrepancy. Its encoder comes first."),
    weights_option,
    option(
        "--run",
        "runs",
        metavar="DIR[@EPOCH]",
        multiple=True,
        shell_complete=complete_folders,
        help="Folder of modgap train with a fine-tuned encoder. Wildcards are allowed. Can be repeated.",
    ),
    option(
        "--epochs",
        metavar="chosen|all|N,N",
        default="chosen",
        shell_complete=names_completer("chosen", "all"),
        help="Weights to use of each run: the chosen ones, or those of epochs that stage2.keep_epochs kept.",
    ),
    option(
        "--other",
        "others",
        metavar="NAME",
        multiple=True,
        shell_complete=complete_sources,
        help="Another source to measure too, such as random:NAME. Can be repeated.",
    ),
)
@option_group(
    "Samples",
    option(
        "--surrogate",
        "surrogates",
        metavar="NAME",
        multiple=True,
        shell_complete=complete_targets,
        help="Labeled data of the source's modality. The default is the source's own surrogate. Can be repeated.",
    ),
    option(
        "--split",
        type=click.Choice(["train", "val", "test"]),
        help="Split of the surrogates. The default is one that the source was not trained on, if that is "
        "known, and otherwise train.",
    ),
    option("--limit", default=5000, help="Largest number of samples of each surrogate."),
)
@option_group(
    "Features",
    input_size_option,
    option(
        "--layer",
        metavar="NAME",
        multiple=True,
        default=("output",),
        help="Layer of the encoder: a module, a pattern, or blocks for all blocks. Probes use the last. Can be "
        "repeated.",
    ),
    option("--normalized", is_flag=True, help="Divide the features of each sample by their norm."),
)
@option_group(
    "Probes and similarity",
    option(
        "--probe",
        "probes",
        multiple=True,
        default=("linear",),
        type=click.Choice(["linear", "ridge", "knn", "nearest-mean"]),
        help="Kind of probe. Encoders are compared by the first one. Can be repeated.",
    ),
    option("--repeats", default=5, help="Repeats of the three-fold cross-validation of a probe. Time grows with them."),
    option(
        "--few-shot",
        is_flag=True,
        help="Also measure the first probe's error for several numbers of training samples per class, in 5 draws.",
    ),
    option(
        "--similarity",
        "similarities",
        multiple=True,
        default=("linear_cka", "procrustes", "knn_overlap"),
        type=click.Choice(["linear_cka", "kernel_cka", "procrustes", "knn_overlap"]),
        help="Measure of similarity to the untouched encoder. Can be repeated.",
    ),
    option("--seed", default=0, help="Seed of probes and maps."),
)
@option_group(
    "Maps",
    option("--maps", is_flag=True, help="Compute a t-SNE map for each encoder, as in the paper's Fig. 2."),
    option("--perplexity", default=30.0, help="Perplexity of the maps."),
)
@option_group(
    "Hardware",
    device_option,
    dtype_option,
    batch_size_option,
    option("--threads", default=1, help="Threads for the maps. Results do not depend on it."),
)
@output_options("Write distortion.json and the figures to this folder.")
@click.pass_context
def distortion(context: click.Context, /, **options: Any) -> None:
    """Measure how much of a source's knowledge is left after fine-tuning.

    Labeled data of the source's own modality goes through the source's embedder and through its encoder before and
    after fine-tuning. The error of a probe on the features shows how much of the knowledge is left. Lower is better.
    """
    from modgap.distortion.encoders import FeatureRequest
    from modgap.distortion.measurement import DistortionRequest, measure_distortion
    from modgap.distortion.report import DistortionResult
    from modgap.storage.locks import output_folder

    check_minimums(options, {"limit": 20, "repeats": 2, "threads": 1})
    check_maximum("threads", options["threads"], MOST_THREADS)
    log_to_stderr(options["quiet"])
    request = DistortionRequest(
        features=FeatureRequest(sample_request(options), layers=options["layer"], normalized=options["normalized"]),
        probes=tuple(dict.fromkeys(options["probes"])),
        repeats=options["repeats"],
        similarities=tuple(dict.fromkeys(options["similarities"])),
        epochs=_parse_epochs(options["epochs"]),
        few_shot=options["few_shot"],
        maps=options["maps"],
        perplexity=options["perplexity"],
        threads=options["threads"],
    )
    check_figure_formats(context, options["out"])
    start = time.perf_counter()
    with output_folder(options["out"]) as folder:
        with progress_bars(options["quiet"]) as progress:
            results = measure_distortion(
                options["source"],
                options["surrogates"],
                _expand_folders(options["runs"]),
                request,
                others=options["others"],
                weights=options["weights"],
                progress=progress,
            )
        result = DistortionResult(options["source"], tuple(results), request, time.perf_counter() - start)
        print_result(result, folder, options["formats"], as_json=options["as_json"])


def _parse_epochs(text: str) -> "Epochs":
    if text == "chosen":
        return "chosen"
    if text == "all":
        return "all"
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--epochs is {text!r}, but it must be chosen, all, or numbers such as 1,5,15.") from None


def _expand_folders(texts: Sequence[str]) -> list[str]:
    """Return the folders that match each text; a shell does not always expand wildcards itself."""
    folders: list[str] = []
    for text in texts:
        folder, separator, epoch = text.rpartition("@")
        has_epoch = bool(separator) and epoch.isdecimal()
        pattern = folder if has_epoch else text
        suffix = f"@{epoch}" if has_epoch else ""
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not matches:
            raise UsageError(f"No folder matches --run {pattern}. Pass a folder that modgap train wrote.")
        folders += [f"{match}{suffix}" for match in matches]
    return list(dict.fromkeys(folders))
