"""`modgap train`."""

import click

from modgap.cli.options import (
    custom_data_from_options,
    custom_data_options,
    device_option,
    input_size_option,
    sample_request,
)
from modgap.errors import UsageError

__all__ = ["train"]


@click.command()
@click.option("--method", metavar="NAME", required=True, help="How; modgap methods lists them.")
@click.option("--source", metavar="NAME", required=True, help="As for modgap discrepancy.")
@click.option("--target", metavar="NAME", required=True, help="As for modgap discrepancy.")
@click.option("--out", metavar="DIR", required=True, help="The run's folder: record, log, checkpoints, weights.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint of the run in --out.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True,
    help="A setting of the recipe, such as stage1.epochs=5; may be repeated.",
)  # fmt: skip
@click.option(
    "--protocol", type=click.Choice(["validation", "orca"]), default="validation", show_default=True,
    help="Which samples choose the epoch: validation, a validation split, the test is touched once; orca, the test.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--limit", type=int, help="At most so many samples of each split, in proportion to the classes.")
@input_size_option
@click.option("--weights", metavar="PATH", help="Take the source's weights from this file or folder.")
@device_option
@custom_data_options
@click.option("--tensorboard", is_flag=True, help="Also log for TensorBoard, to DIR/tensorboard.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's record as one JSON document.")
@click.option("--quiet", is_flag=True, help="No progress and no messages but warnings.")
def train(**given) -> None:
    """Transfer a source model to target data, and test it once.

    Several GPUs or machines: start the same command with torchrun or accelerate launch.

    Example: modgap train --method mona --source vit-fashion --target digits --out run
    """
    from modgap.cli.output import log_to_stderr, progress_bars

    samples = sample_request(given)
    if given["seed"] >= 1 << 62:
        raise UsageError(f"expected --seed below 2**62, got {given['seed']}")
    log_to_stderr(given["quiet"])
    with progress_bars(given["quiet"] or not _leads()) as progress:
        run = _trained(given, samples, progress)
    if _leads():
        _print(run, given["as_json"])


def _trained(given: dict, samples, progress):
    from pathlib import Path

    from modgap.transfer.train import TrainRequest, train

    request = TrainRequest(
        method=given["method"],
        source=given["source"],
        target=given["target"],
        overrides=given["overrides"],
        protocol=given["protocol"],
        samples=samples,
        weights=given["weights"],
        custom_data=custom_data_from_options(given),
        data_dir=Path(given["data_dir"]) if given["data_dir"] else None,
    )
    folder = Path(given["out"]).expanduser()
    return train(request, folder, resume=given["resume"], progress=progress, tensorboard=given["tensorboard"])


def _leads() -> bool:
    """Of several processes one prints."""
    import os

    return os.environ.get("RANK", "0") == "0"


def _print(run, as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps(dict(run.record), allow_nan=False))
        return
    record, result = run.record, run.record["result"]
    click.echo(f"{record['method']}: {record['source']} -> {record['target']}   seed {record['seed']}")
    interval = "none" if None in result["interval"] else "{:.4g} to {:.4g}".format(*result["interval"])
    unit = f" ({result['unit']})" if result["unit"] and result["unit"] not in result["metric"] else ""
    click.echo(f"test {result['metric']}{unit}: {_number(result['test'])}, 95 % interval {interval}; lower is better")
    if result["left_out"]:
        click.echo(f"left out of it: {result['left_out']} samples or classes for which it is not defined")
    if result["epoch"]:
        click.echo(f"weights of epoch {result['epoch']}, chosen by {result['chosen_by']}")
    if record["protocol"] == "orca":
        click.echo("protocol of ORCA: the test chose the epoch, so the value is optimistic")
    if published := _published(record["target"]):
        click.echo(published)
    click.echo(f"the run is in {run.folder}")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _published(target: str) -> str:
    """The paper's row for this target, where its manifest has one."""
    from modgap.targets import manifest_names, named_manifest

    if target not in manifest_names():
        return ""
    rows = named_manifest(target).published
    return "published: " + "; ".join(f"{row.method} {row.value:g}" for row in rows[:12]) if rows else ""
