"""The command `modgap export`."""

from typing import Any

import click
import cloup

from modgap.cli.completion import complete_folders
from modgap.cli.groups import example
from modgap.cli.options import allow_download_option, option, option_group, quiet_option, weights_option
from modgap.cli.output import log_to_stderr, print_line
from modgap.errors import UsageError
from modgap.storage.paths import expand_user

SUFFIXES = {"safetensors": ".safetensors", "torch-export": ".pt2", "onnx": ".onnx"}


@cloup.command(epilog=example("modgap export --run run --format onnx --out model.onnx"))
@option_group(
    "Model",
    option("--run", metavar="DIR", required=True, shell_complete=complete_folders, help="Folder of modgap train."),
    weights_option,
    allow_download_option,
)
@option_group(
    "Output",
    option(
        "--format",
        "file_format",
        type=click.Choice(list(SUFFIXES)),
        default="safetensors",
        help="safetensors is one file for modgap predict and modgap.load_run. torch-export and onnx run without "
        "modgap, take samples after the target's steps of preprocessing, and describe them in a JSON file beside them.",
    ),
    option("--out", metavar="FILE", required=True, help="File to write, which must not exist."),
    quiet_option,
)
def export(**options: Any) -> None:
    """Write a trained model to one file."""
    from modgap.training.export import TOKENIZER_SUFFIX, description_file, export_model
    from modgap.training.trained_model import load_trained_model

    out = expand_user(options["out"])
    if out.exists():
        raise UsageError(f"{out} exists already. Pass another --out, or remove it.")
    if out.suffix.lower() != SUFFIXES[options["file_format"]]:
        raise UsageError(
            f"--out {out} does not end with {SUFFIXES[options['file_format']]}, the suffix of the format "
            f"{options['file_format']}."
        )
    description = description_file(out, options["file_format"])
    for path, role in ((description, "describe the model"), (out.with_suffix(TOKENIZER_SUFFIX), "make its tokens")):
        if description and path and path.exists():
            raise UsageError(f"{path}, which would {role}, exists already. Pass another --out, or remove it.")
    log_to_stderr(options["quiet"])
    model = load_trained_model(
        options["run"], weights=options["weights"], device="cpu", allow_download=options["allow_download"]
    )
    export_model(model, out, options["file_format"])
    beside = f" {description} names its classes and the values that it takes." if description else ""
    print_line(f"The model is in {out} ({out.stat().st_size / 1e6:.1f} MB).{beside}")
