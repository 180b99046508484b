"""The command `modgap features`."""

from typing import Any

import cloup

from modgap.cli.completion import complete_files, heads_completer
from modgap.cli.groups import example
from modgap.cli.options import (
    check_minimums,
    custom_data_options,
    device_option,
    input_size_option,
    option,
    option_group,
    quiet_option,
    representation_option,
    sample_options,
    sample_request,
    seed_option,
    source_option,
    target_option,
    target_request,
)
from modgap.cli.output import log_to_stderr, print_line, progress_bars
from modgap.errors import count


@cloup.command(epilog=example("modgap features --source vit-fashion --target digits --out features.npz"))
@option_group(
    "Source and target",
    source_option("Source model, as for modgap discrepancy."),
    target_option(),
    option(
        "--head",
        metavar="HEAD",
        default="auto",
        shell_complete=heads_completer("auto", "own", "none"),
        help="Head of the logits: own, none, or probe:SURROGATE for one fitted on labeled data. auto takes own, or "
        "else one fitted on labeled data of the source's modality, or else none.",
    ),
    input_size_option,
    representation_option,
)
@sample_options(None)
@custom_data_options
@option_group("Hardware", device_option, seed_option)
@option_group(
    "Output",
    option("--out", metavar="FILE", required=True, shell_complete=complete_files, help="File to write, FILE.npz."),
    quiet_option,
)
def features(**options: Any) -> None:
    """Write features of a source on target data to a file.

    The file, for use elsewhere, has the arrays features, logits, labels, values, groups, samples (their numbers),
    target_classes, source_classes and provenance, as far as there are any. They are those of modgap rank, and in its
    cache.
    """
    from modgap.api.features import check_features_file, compute_features
    from modgap.forward.inference_setup import LogitsRequest

    out = check_features_file(options["out"])
    check_minimums(options, {"pseudo_classes": 2})
    request = LogitsRequest(sample_request(options), head=options["head"])
    target = target_request(options["target"], options)
    log_to_stderr(options["quiet"])
    with progress_bars(options["quiet"]) as progress:
        result = compute_features(options["source"], target, request, progress)
    result.save(out)
    n_samples, width = result.features.shape
    print_line(f"{count(width, 'feature')} of {count(n_samples, 'sample')} written to {out}.")
