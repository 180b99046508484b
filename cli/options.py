"""Options that several commands share."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from modgap.errors import check_minimum
from modgap.forward.sample_request import SampleRequest

if TYPE_CHECKING:
    from modgap.targets import CustomData

__all__ = [
    "CUSTOM_DATA_OPTIONS",
    "check_minimums",
    "custom_data_from_options",
    "custom_data_options",
    "device_option",
    "dtype_option",
    "input_size_option",
    "pseudo_classes_option",
    "representation_option",
    "sample_request",
    "split_option",
]

CUSTOM_DATA_OPTIONS = ("kind", "label", "series", "time", "group", "x", "y")
"""Options that describe custom data where the file itself does not tell."""

split_option = click.option(
    "--split",
    type=click.Choice(["all", "train", "val", "test"]),
    default="all",
    show_default=True,
    help="Split of the target's samples.",
)
input_size_option = click.option(
    "--input-size", type=int, metavar="PX", help="Height and width of a source's input; the source's default if absent."
)
representation_option = click.option(
    "--representation",
    type=click.Choice(["spectrogram", "log-mel", "fold", "tokens"]),
    help="How time series and audio are turned into model input.",
)
pseudo_classes_option = click.option(
    "--pseudo-classes", type=int, metavar="K", help="Number of clusters that serve as classes of a regression target."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Precision of a source; bfloat16 and float16 are mixed precision.",
)
TARGET_DATA_OPTIONS = (
    click.option("--data-dir", metavar="DIR", help="Folder of the target's files; the usual locations if absent."),
    click.option(
        "--kind",
        type=click.Choice(["image", "series", "table", "text"]),
        help="Content of an array file or CSV file, if it can be read in several ways.",
    ),
    click.option("--label", metavar="COLUMN", help="CSV: column of the label; label, class, target or y if absent."),
    click.option(
        "--series", metavar="COLUMN", help="CSV in long format: column with the name of the series of each row."
    ),
    click.option("--time", metavar="COLUMN", help="CSV in long format: column that orders the rows of a series."),
    click.option(
        "--group", metavar="NAME", help="CSV column, or array, with the group of samples that belong together."
    ),
    click.option("--x", metavar="KEY", help="Array file: name of the samples; x if absent."),
    click.option("--y", metavar="KEY", help="Array file: name of the labels; y if absent."),
)


def custom_data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the location of a target's files and for custom data to a command."""
    for option in reversed(TARGET_DATA_OPTIONS):
        command = option(command)
    return command


def custom_data_from_options(values: Mapping[str, Any]) -> "CustomData":
    """Return the description of custom data that a command's option values give."""
    from modgap.targets import CustomData

    return CustomData.from_options(values)


def sample_request(values: Mapping[str, Any]) -> SampleRequest:
    """Build the request for samples from a command's option values.

    Options that the command does not have keep their defaults.

    Raises:
        UsageError: When a value is out of range.
    """
    names = [field.name for field in fields(SampleRequest)]
    return SampleRequest(**{name: values[name] for name in names if name in values})


def check_minimums(values: Mapping[str, Any], minimums: Mapping[str, float]) -> None:
    """Raise if an option's value is below its minimum.

    Args:
        values: A command's option values by parameter name.
        minimums: The smallest allowed value of each option that is checked.

    Raises:
        UsageError: When a value is too small.
    """
    for name, minimum in minimums.items():
        check_minimum(f"--{name.replace('_', '-')}", values[name], minimum)
