"""The command `modgap predict`."""

from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import complete_folders
from modgap.cli.groups import example
from modgap.cli.options import allow_download_option, device_option, option, option_group, quiet_option, weights_option
from modgap.cli.output import log_to_stderr, print_line
from modgap.errors import UsageError, check_minimum, count
from modgap.storage.paths import expand_user

if TYPE_CHECKING:
    from pathlib import Path


@cloup.command(epilog=example("modgap predict --run run --data photos --out predictions.csv"))
@option_group(
    "Model",
    option(
        "--run",
        metavar="DIR[@EPOCH]",
        required=True,
        shell_complete=complete_folders,
        help="Folder of modgap train or modgap transfer, or a file of modgap export --format safetensors.",
    ),
    weights_option,
    allow_download_option,
)
@option_group(
    "Samples",
    option(
        "--data",
        metavar="PATH",
        required=True,
        help="Folder of images or sounds, one of them, a table that lists them, a table with the columns of the "
        "training data, a .ts file, a .txt file with a text in each line, a file of arrays, or the name of a target. "
        "Labels are ignored.",
    ),
    option(
        "--split",
        type=click.Choice(["train", "val", "test"]),
        default="test",
        help="Split of a target that is given by its name.",
    ),
    option("--x", "x_name", metavar="NAME", help="Name of the array of samples. The default is x, or the only array."),
)
@option_group(
    "Hardware",
    device_option,
    option(
        "--batch-size",
        type=int,
        help="Inputs in a forward pass. The default is that of the training, or on a GPU more.",
    ),
)
@option_group(
    "Output",
    option(
        "--out", metavar="FILE", required=True, help="File to write: .csv has a row for each sample, .npz has arrays."
    ),
    quiet_option,
)
def predict(**options: Any) -> None:
    """Predict the class, the labels or the values of new samples with a trained model.

    The preparation of the training data is applied to them: standardization, steps, windows of recordings.
    """
    from modgap.api.prediction import load_run
    from modgap.training.predictions import predict_data, write_predictions

    out = expand_user(options["out"])
    if out.suffix.lower() not in (".csv", ".npz"):
        raise UsageError(f"--out {out} has no suffix .csv or .npz. Pass for example --out predictions.csv.")
    check_minimum("batch_size", options["batch_size"], 1)
    log_to_stderr(options["quiet"])
    folder, epoch = _run_and_epoch(options["run"])
    model = load_run(
        folder,
        epoch=epoch,
        weights=options["weights"],
        device=options["device"],
        batch_size=options["batch_size"],
        allow_download=options["allow_download"],
    )
    predictions = predict_data(model, options["data"], split=options["split"], x_name=options["x_name"])
    replaced = ", in place of an earlier file" if out.exists() else ""
    write_predictions(predictions, out)
    print_line(f"{count(len(predictions.names), 'prediction')} written to {out}{replaced}.")


def _run_and_epoch(text: str) -> tuple["Path", int | None]:
    path = expand_user(text)
    folder, at, epoch = text.rpartition("@")
    if path.exists() or not at:
        return path, None
    if not epoch.isdecimal():
        raise UsageError(f"--run {text} does not end with the number of an epoch. Pass DIR or DIR@EPOCH.")
    return expand_user(folder), int(epoch)
