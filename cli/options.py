"""Options that several commands share."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import (
    Completer,
    complete_files,
    complete_folders,
    complete_sources,
    complete_targets,
    names_completer,
)
from modgap.errors import UsageError, check_minimum
from modgap.forward.sample_request import SampleRequest
from modgap.storage.paths import expand_user

if TYPE_CHECKING:
    from modgap.targets import CustomData, TargetRequest

Options = Mapping[str, Any]
"""Values of the options of a command, by the names of its parameters."""
Decorator = Callable[[Any], Any]
"""A function that adds an option to a command, and returns it."""
CUSTOM_DATA_FIELDS = (
    "kind",
    "label_column",
    "label_type",
    "task",
    "series_column",
    "time_column",
    "group",
    "split_from",
    "x_name",
    "y_name",
    "background",
    "columns",
    "fill",
    "standardize",
)
"""Parameters of the options that describe custom data: the fields of CustomData."""


def option(*names: str, **settings: Any) -> Decorator:
    """Return a decorator that adds an option to a command, with its default in the help if it has one."""
    return click.option(*names, **{"show_default": "default" in settings, **settings})


input_size_option = option(
    "--input-size",
    type=int,
    metavar="PX",
    help="Height and width of an image source's input in pixels. The default is the source's.",
)
representation_option = option(
    "--representation",
    metavar="NAME",
    shell_complete=names_completer("spectrogram", "log-mel", "fold", "tokens", "rows", "patches"),
    help="How samples of another modality are turned into model input: spectrogram, log-mel, fold, tokens, rows, "
    "patches, or a plug-in's. The default is the manifest's choice.",
)
pseudo_classes_option = option(
    "--pseudo-classes",
    type=int,
    metavar="K",
    help="Number of clusters that replace the values of a regression target as classes.",
)
device_option = option(
    "--device",
    metavar="NAME",
    default="auto",
    shell_complete=names_completer("auto", "cpu", "cuda", "mps"),
    help="Device that the model runs on: auto, cpu, cuda or mps.",
)


def _parse_batch_size(_context: click.Context, _parameter: click.Parameter, text: str) -> int | None:
    """Return the number, or None for `auto`."""
    if text == "auto":
        return None
    if not text.isdecimal():
        raise UsageError(f"--batch-size is {text!r}, but it must be auto or a number of samples.")
    return int(text)


batch_size_option = option(
    "--batch-size",
    metavar="N|auto",
    default="auto",
    callback=_parse_batch_size,
    help="Number of samples in a batch. The default is 16 on the CPU, and what the memory of a GPU holds.",
)
loader_workers_option = option(
    "--loader-workers",
    type=int,
    metavar="N",
    help="Number of processes that read and prepare samples ahead of the model; 0 for a thread. The default is a "
    "thread on the CPU, and up to 4 processes for a GPU. The results do not depend on it.",
)
dtype_option = option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16", "auto"]),
    default="float32",
    help="Precision of the source model. bfloat16 and float16 are mixed precision; auto is bfloat16 on a CUDA GPU that "
    "has it, and else float32.",
)
figure_format_option = option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["png", "svg", "pdf"]),
    default=("png",),
    help="Format of the figures that --out writes. Can be repeated.",
)
json_option = option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
quiet_option = option("--quiet", is_flag=True, help="Hide progress and all messages except warnings.")
seed_option = option("--seed", default=0, help="Seed of all random numbers.")
weight_option = option(
    "--weight",
    type=click.Choice(["samples", "groups", "classes"]),
    help="What counts equally in an error. The default is groups if the target has groups, else samples.",
)
weights_option = option(
    "--weights",
    metavar="PATH",
    shell_complete=complete_files,
    help="Load the source's weights from this file, or from a folder that also contains its configuration.",
)
allow_download_option = option(
    "--allow-download",
    is_flag=True,
    help="Download the source that the run names, if it is not on this machine. Allow it for runs that you trust.",
)


def option_group(title: str, *options: Decorator, description: str | None = None) -> Decorator:
    """Return a decorator that adds options to a command, under a title of their own in its help.

    Args:
        title: Title of the group in the help.
        options: Decorators that each add one option.
        description: Text under the title; None for no text.
    """
    return cloup.option_group(title, *options, help=description)


custom_data_options = option_group(
    "Custom data",
    option(
        "--kind",
        type=click.Choice(["image", "series", "table", "text", "string", "sound"]),
        help="Kind of samples in an array file or table, or of the files that a table lists, if it is not clear.",
    ),
    option(
        "--label",
        "label_column",
        metavar="COLUMN",
        help="Table: column of labels. The default is label, class, target or y.",
    ),
    option(
        "--label-type",
        type=click.Choice(["text", "number"]),
        help="Table: whether 01 and 1 are two labels (text) or one (number), also of groups. The default refuses both "
        "spellings in a column.",
    ),
    option(
        "--task",
        type=click.Choice(["classification", "multi-label", "regression"]),
        help="Whether labels are classes, 0/1 labels of several a sample, or values. By default, in a table "
        "numbers of which some are not whole or most differ are values, in arrays those with a decimal point.",
    ),
    option(
        "--series",
        "series_column",
        metavar="COLUMN",
        help="Table in long format: column that names the series of each row.",
    ),
    option(
        "--time", "time_column", metavar="COLUMN", help="Table in long format: column that orders the rows of a series."
    ),
    option(
        "--group",
        metavar="NAME",
        help="Column or array that names the group of each sample, such as its subject; for a folder, part of the path "
        "with {group} in it (/subject{group}_) or a table. Samples of a group are kept together.",
    ),
    option(
        "--split-from",
        metavar="NAME|FILE",
        help="Column or array with the split of each sample (train, val or test), or a file that lists them: a table "
        "with the columns sample and split, or a .txt file with one split in each line. The default is a column split "
        "or an array splits, if there is one.",
    ),
    option("--x", "x_name", metavar="KEY", help="Array file: name of the array of samples. The default is x."),
    option("--y", "y_name", metavar="KEY", help="Array file: name of the array of labels. The default is y."),
    option("--background", metavar="COLOR", help="Images: color behind transparent pixels. The default is white."),
    option("--columns", metavar="A,B,...", help="Table: columns of features. The default is all other columns."),
    option(
        "--fill",
        type=click.Choice(["mean", "median", "drop"]),
        help="Table: what replaces missing cells, of the training samples; drop leaves out their rows.",
    ),
    option(
        "--standardize",
        type=click.Choice(["sample"]),
        help="Series: standardize each channel of a sample by its own mean and standard deviation (sample), so that "
        "offset and scale of a series do not count. The default keeps them.",
    ),
    description="These options apply to your own files and folders, not to named targets. A table is a .csv, .tsv "
    "or .parquet file. An array file is an .npz, .npy, .safetensors or .h5 file.",
)


def data_dir_option(
    help_text: str = "Data directory of the target. The default is the one that modgap data path TARGET shows.",
) -> Decorator:
    """Return the option `--data-dir` with the help text of a command."""
    return option("--data-dir", metavar="DIR", shell_complete=complete_folders, help=help_text)


def name_argument(noun: str, completer: Completer) -> Decorator:
    """Return the optional argument of a command that lists things: the name of one, which it then shows."""
    help_text = f"Name of the {noun} to show. Without it, all {noun}s are listed."
    return cloup.argument("name", required=False, shell_complete=completer, help=help_text)


def list_options(noun: str, kinds: str) -> Decorator:
    """Return the group of options that filter the list of sources or of targets.

    Args:
        noun: Noun of an entry in the plural.
        kinds: Kinds of the data, for the help.
    """
    kind = option("--kind", metavar="KIND", help=f"Only {noun} of this kind: {kinds}.")
    license_filter = option(
        "--license",
        metavar="LICENSE",
        help=f"Only {noun} with this license: open (anyone may use, change and share it), or words of it such as mit, "
        "gpl, cc-by or 'not stated'.",
    )
    diverse = option(
        "--diverse",
        is_flag=True,
        help=f"Only the pool @diverse: {noun} on this machine with an open license, without near copies.",
    )
    return option_group("List", kind, license_filter, diverse)


def refuse_filters(name: str, kind: str | None, license: str | None, diverse: bool) -> None:
    """Raise if a filter of `list_options` was passed with the name of a source or target, which is shown alone."""
    if kind or license or diverse:
        raise UsageError(f"--kind, --license and --diverse filter the list. Leave them out, or leave out {name}.")


def source_option(help_text: str, *, required: bool = True) -> Decorator:
    """Return the option `--source` with the help text of a command."""
    return option("--source", metavar="NAME", required=required, shell_complete=complete_sources, help=help_text)


def target_option(help_text: str = "Target data, as for modgap discrepancy.", *, required: bool = True) -> Decorator:
    """Return the option `--target` with the help text of a command."""
    return option("--target", metavar="NAME", required=required, shell_complete=complete_targets, help=help_text)


def sample_options(default_limit: int | None, *, default_split: str = "all") -> Decorator:
    """Return the group of options that choose the samples of a target.

    Args:
        default_limit: Default of `--limit`, which `--limit 0` then removes; None for no limit.
        default_split: Default of `--split`.
    """
    limit = option(
        "--limit",
        type=int,
        default=default_limit,
        help="Use at most this many samples, drawn with --seed in proportion to the classes."
        + (" 0 uses all." if default_limit else ""),
    )
    split = option(
        "--split",
        type=click.Choice(["all", "train", "val", "test"]),
        default=default_split,
        help="Split of the target's samples to use."
        + (" Samples that test the chosen source should not choose it." if default_split == "train" else ""),
    )
    return option_group("Samples", split, limit, pseudo_classes_option, data_dir_option())


def output_options(files: str) -> Decorator:
    """Return the group of options for the output of a command that writes figures.

    Args:
        files: Sentence that says what `--out` writes.
    """
    out = option("--out", metavar="DIR", shell_complete=complete_folders, help=files)
    return option_group("Output", out, figure_format_option, json_option, quiet_option)


def custom_data_from_options(values: Options) -> "CustomData":
    """Build the description of custom data from a command's option values."""
    from modgap.targets import CustomData

    return CustomData(**{name: values[name] for name in CUSTOM_DATA_FIELDS})


def target_request(name: str, values: Options) -> "TargetRequest":
    """Build the request for a target from a command's option values."""
    from modgap.targets import TargetRequest

    data_dir = expand_user(values["data_dir"]) if values["data_dir"] else None
    return TargetRequest(name, custom_data_from_options(values), data_dir, values["pseudo_classes"])


def sample_request(values: Options) -> SampleRequest:
    """Build the request for samples from a command's option values.

    Options that the command does not have keep their defaults.

    Raises:
        UsageError: When a value is out of range.
    """
    names = [field.name for field in fields(SampleRequest)]
    return SampleRequest(**{name: values[name] for name in names if name in values})


def check_figure_formats(context: click.Context, out: object) -> None:
    """Raise if the user passed `--format` without `--out`, because then no figure is written.

    Args:
        context: Context of the command.
        out: Value of `--out`.

    Raises:
        UsageError: When `--format` would be ignored.
    """
    if not out and context.get_parameter_source("formats") == click.core.ParameterSource.COMMANDLINE:
        raise UsageError("--format applies to the figures that --out writes. Add --out DIR.")


def check_minimums(values: Options, minimums: Mapping[str, float]) -> None:
    """Raise if an option's value is below its minimum.

    Args:
        values: A command's option values by parameter name.
        minimums: The smallest allowed value of each option that is checked.

    Raises:
        UsageError: When a value is too small.
    """
    for name, minimum in minimums.items():
        check_minimum(name, values[name], minimum)
