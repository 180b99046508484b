"""`modgap rank`."""

import click

from modgap.cli.options import (
    check_minimums,
    custom_data_from_options,
    custom_data_options,
    dtype_option,
    input_size_option,
    pseudo_classes_option,
    representation_option,
    sample_request,
    split_option,
)
from modgap.errors import CUSTOM_DATA_FORMATS, UsageError

__all__ = ["rank"]

LEAST_RESAMPLES = 10
"""As in modgap.ranking.standings, which a command's help must not import."""


@click.command()
@click.option("--target", metavar="NAME", required=True, help=f"Manifest's name, {CUSTOM_DATA_FORMATS}.")
@click.option(
    "--sources", "given_sources", metavar="A,B,..|@FILE|'timm:vit_*'", multiple=True, required=True,
    help="Sources as for modgap discrepancy: names with commas between, a file of them, one a line, or a pattern of "
    "timm's names; @64px after a name is its input's side. May be repeated.",
)  # fmt: skip
@click.option(
    "--by", metavar="SCORE", help="What decides; leep for classes and discrepancy else if absent; see modgap scores."
)
@click.option(
    "--score", "scores", metavar="SCORE", multiple=True,
    help="Another score to show, or all; the usual ones if absent. May be repeated.",
)  # fmt: skip
@click.option(
    "--resamples", type=int, default=50, show_default=True,
    help="Random halves of the samples, for intervals of scores and ranks; 0 for none.",
)  # fmt: skip
@click.option("--no-controls", is_flag=True, help="Leave out the same architectures with random weights.")
@click.option("--no-raw", is_flag=True, help="Leave out the row of the samples' own values.")
@split_option
@click.option(
    "--limit", type=int, default=2000, show_default=True,
    help="At most so many samples, chosen by seed, in proportion to the classes; 0 for all.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every draw.")
@input_size_option
@representation_option
@custom_data_options
@pseudo_classes_option
@click.option(
    "--head", default="auto", show_default=True,
    help="auto: the source's own, or one fitted on labeled data of its modality; own, none, or probe:SURROGATE.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; one process a CUDA device.")
@click.option("--batch-size", type=int, default=16, show_default=True, help="Samples at a time through a source.")
@dtype_option
@click.option(
    "--backend", type=click.Choice(["loky", "serial", "dask", "ray", "slurm"]), default="loky", show_default=True,
    help="Where the jobs run; changes no result.",
)  # fmt: skip
@click.option("--jobs", type=int, metavar="N", help="Processes on this machine; one a core if absent.")
@click.option(
    "--address", metavar="HOST:PORT", help="Of a running Dask or Ray cluster; a local one is started if absent."
)
@click.option(
    "--cluster", "cluster_options", metavar="KEY=VALUE", multiple=True,
    help="For --backend slurm, as submitit takes it: slurm_partition=gpu, timeout_min=60, folder=logs.",
)  # fmt: skip
@click.option("--out", metavar="DIR", help="Write ranking.json, ranking.csv, ranking.png there, for modgap report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@click.option("--quiet", is_flag=True, help="No progress and no messages but warnings.")
def rank(**given) -> int:
    """Which source to transfer from.

    Every source looks at the target's samples once; scores of transferability are then taken of what it gave, on all
    samples and on random halves of them, which say how sure a score and a rank are. What is done is kept: after an
    interruption, or with another score, the same command goes on where it was. Exits with 1 if a source failed.

    Example: modgap rank --target digits --sources vit-fashion,efficientnet-lite0 --input-size 64
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.discrepancy.result_folder import create_output_folder
    from modgap.ranking.rank import rank as ranked
    from modgap.ranking.report import to_json
    from modgap.ranking.source_patterns import named_sources

    _check(given)
    request = _request(given)
    log_to_stderr(given["quiet"])
    sources = named_sources(given["given_sources"])
    folder = create_output_folder(given["out"]) if given["out"] else None
    with progress_bars(given["quiet"]) as progress:
        found = ranked(
            given["target"], sources, request, _backend(given),
            custom_data=custom_data_from_options(given), data_dir=_data_dir(given),
            pseudo_classes=given["pseudo_classes"], progress=progress,
        )  # fmt: skip
    if folder:
        from modgap.ranking.result_folder import write_folder

        written = write_folder(found, folder)
        click.echo(f"modgap: wrote {', '.join(str(path) for path in written)}", err=True)
    if given["as_json"]:
        click.echo(to_json(found))
    else:
        _print(found)
    return 1 if found.failed else 0


def _check(given: dict) -> None:
    check_minimums(given, {"resamples": 0, "limit": 0, "jobs": 1, "pseudo_classes": 2})
    if 0 < given["resamples"] < LEAST_RESAMPLES:
        raise UsageError(
            f"expected --resamples of at least {LEAST_RESAMPLES}, or 0 for no intervals, got {given['resamples']}; "
            "fewer say little of spread"
        )
    if given["address"] and given["backend"] not in ("dask", "ray"):
        raise UsageError(f"--address applies to --backend dask and ray, not to {given['backend']}")
    if given["cluster_options"] and given["backend"] != "slurm":
        raise UsageError(f"--cluster applies to --backend slurm, not to {given['backend']}")


def _data_dir(given: dict):
    from pathlib import Path

    return Path(given["data_dir"]) if given["data_dir"] else None


def _request(given: dict):
    from modgap.ranking.scores import score_names
    from modgap.ranking.types import RankRequest

    scores = tuple(score_names()) if "all" in given["scores"] else given["scores"]
    return RankRequest(
        scores=scores,
        by=given["by"],
        resamples=given["resamples"],
        samples=sample_request({**given, "limit": given["limit"] or None}),
        head=given["head"],
        controls=not given["no_controls"],
        raw=not given["no_raw"],
        details=bool(given["out"]),
    )


def _backend(given: dict):
    from modgap.ranking.backends import Backend

    options = {}
    for text in given["cluster_options"]:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"expected --cluster KEY=VALUE, got {text!r}")
        options[name] = int(value) if value.isdigit() else value
    return Backend(given["backend"], given["jobs"], given["address"], options)


def _print(found) -> None:
    from modgap.cli.output import print_table, print_text, print_wide_table
    from modgap.ranking.recommendation import recommendation
    from modgap.ranking.report import reasons, score_rows, table_rows

    target = found.target
    if target:
        groups = f" in {target.groups:,} groups" if target.groups else ""
        direction = "higher" if found.tables[found.by].higher_is_better else "lower"
        title = (
            f"{target.name}: N = {target.samples:,}{groups}, K = {target.classes}; by {found.by}, {direction} is better"
        )
        print_table(*table_rows(found), title)
        if len(found.tables) > 1:
            print_wide_table(*score_rows(found), "other scores (↑ higher is better, ↓ lower; * the first by it)")
    for line in reasons(found):
        print_text(line)
    for sentence in recommendation(found):
        print_text(sentence)
    done = ", ".join(f"{stage} {now:,} done now, {before:,} found done" for stage, (now, before) in found.jobs.items())
    print_text(f"jobs: {done}")
