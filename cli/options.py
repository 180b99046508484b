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
]  # fmt: skip

CUSTOM_DATA_OPTIONS = ("kind", "label", "series", "time", "group", "x", "y")
"""What data of one's own does not say of itself."""

split_option = click.option(
    "--split", type=click.Choice(["all", "train", "val", "test"]), default="all", show_default=True,
    help="Part of the target's samples.",
)  # fmt: skip
input_size_option = click.option(
    "--input-size", type=int, metavar="PX", help="Height and width of a source's input; its own if absent."
)
representation_option = click.option(
    "--representation", type=click.Choice(["spectrogram", "log-mel", "fold", "tokens"]),
    help="How series and sound enter.",
)  # fmt: skip
pseudo_classes_option = click.option(
    "--pseudo-classes", type=int, metavar="K", help="Clusters that stand for a real-valued target's values."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
dtype_option = click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True,
    help="Precision of a source; other than float32 is mixed.",
)  # fmt: skip
OPTIONS = (
    click.option("--data-dir", metavar="DIR", help="Folder of the target's files; the usual locations if absent."),
    click.option(
        "--kind", type=click.Choice(["image", "series", "table", "text"]),
        help="What an array file or CSV holds, where unclear.",
    ),
    click.option("--label", metavar="COLUMN", help="CSV: the label; label, class, target or y if absent."),
    click.option("--series", metavar="COLUMN", help="CSV in long format: which series a row belongs to."),
    click.option("--time", metavar="COLUMN", help="CSV in long format: what orders a series' rows."),
    click.option("--group", metavar="NAME", help="CSV column, or array, that says which samples belong together."),
    click.option("--x", metavar="KEY", help="Array file: name of the samples; x if absent."),
    click.option("--y", metavar="KEY", help="Array file: name of the labels; y if absent."),
)  # fmt: skip


def custom_data_options(command: Callable) -> Callable:
    """Add the options of where a target lies and of data of one's own."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def custom_data_from_options(given: dict[str, Any]) -> "CustomData":
    """What was given of them."""
    from modgap.targets import CustomData

    return CustomData.from_options(given)


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
