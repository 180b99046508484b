"""`modgap rank`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from modgap.ranking.backends import Backend
    from modgap.ranking.types import Ranking, RankRequest

__all__ = ["rank"]

MIN_RESAMPLES = 10
"""Same as modgap.ranking.standings.MIN_HALF_SAMPLES, which would make the help slow to import."""
MINIMUMS = {"resamples": 0, "limit": 0, "jobs": 1, "pseudo_classes": 2}


@click.command()
@click.option(
    "--target",
    metavar="NAME",
    required=True,
    help="The target: the name of a manifest (see `modgap targets`), or the path of your own data: "
    f"{CUSTOM_DATA_FORMATS}.",
)
@click.option(
    "--sources",
    "source_arguments",
    metavar="A,B,..|@FILE|'timm:vit_*'",
    multiple=True,
    required=True,
    help="The sources (see `modgap sources`): names separated by commas, @FILE for a file with one name in each line, "
    "or a pattern of timm models. A name may end with the input size, as in vit-b@64px. The option may be repeated.",
)
@click.option(
    "--by",
    metavar="SCORE",
    help="The score that sources are ranked by. The default is leep for classification targets, and discrepancy for "
    "multi-label and regression targets. `modgap scores` lists all scores.",
)
@click.option(
    "--score",
    "scores",
    metavar="SCORE",
    multiple=True,
    help="A further score to show, or `all`. The default scores are shown if the option is absent. It may be repeated.",
)
@click.option(
    "--resamples",
    type=int,
    default=50,
    show_default=True,
    help="Number of random halves of the samples, from which the intervals of scores and ranks are estimated. 0 means "
    "no intervals.",
)
@click.option("--no-controls", is_flag=True, help="Do not score random-weights controls of the sources.")
@click.option("--no-raw", is_flag=True, help="Do not score the raw values of the samples.")
@split_option
@click.option(
    "--limit",
    type=int,
    default=2000,
    show_default=True,
    help="Largest number of samples, chosen in proportion to the classes. 0 means all samples.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers.")
@input_size_option
@representation_option
@custom_data_options
@pseudo_classes_option
@click.option(
    "--head",
    default="auto",
    show_default=True,
    help="Classification head of the sources. `own` takes the head of the source. `probe:SURROGATE` fits a linear head "
    "on labeled data. `none` uses features only. `auto` takes the head of the source, or else fits one on labeled data "
    "of the source's own modality.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device that the sources run on: auto, cpu, cuda or mps. With several CUDA devices, one process runs on each.",
)
@click.option(
    "--batch-size", type=int, default=16, show_default=True, help="Number of samples in a batch of a source's input."
)
@dtype_option
@click.option(
    "--backend",
    type=click.Choice(["loky", "serial", "dask", "ray", "slurm"]),
    default="loky",
    show_default=True,
    help="Where the jobs run: in processes on this machine (loky), one after the other (serial), or on a cluster. The "
    "results are the same.",
)
@click.option(
    "--jobs",
    type=int,
    metavar="N",
    help="Number of processes on this machine. The default is one for each core.",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Address of a running Dask or Ray cluster. The default is to start one on this machine.",
)
@click.option(
    "--cluster",
    "cluster_options",
    metavar="KEY=VALUE",
    multiple=True,
    help="An option for --backend slurm that is passed to submitit, such as slurm_partition=gpu, timeout_min=60 or "
    "folder=logs. It may be repeated.",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Write ranking.json, ranking.csv and ranking.png to this folder. `modgap report DIR` makes a page from them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@click.option("--quiet", is_flag=True, help="Show no progress bars, and no messages except warnings.")
def rank(**options: Any) -> int:
    """Rank sources by how well they should transfer to a target.

    Each source processes the target's samples once. Transferability scores are then computed from its features and
    logits, on all samples and on random halves of them, which give intervals of scores and ranks. All results are
    cached: after an interruption, or for another score, the same command computes only what is missing. The exit code
    is 1 if a source could not be scored.

    Example: modgap rank --target digits --sources vit-fashion,efficientnet-lite0 --input-size 64
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.discrepancy.result_folder import create_output_folder
    from modgap.ranking.rank import rank as rank_sources
    from modgap.ranking.source_patterns import parse_source_names

    _check_options(options)
    request = _build_request(options)
    backend = _build_backend(options)
    log_to_stderr(options["quiet"])
    sources = parse_source_names(options["source_arguments"])
    folder = create_output_folder(options["out"]) if options["out"] else None
    with progress_bars(options["quiet"]) as progress:
        ranking = rank_sources(
            options["target"],
            sources,
            request,
            backend,
            custom_data=custom_data_from_options(options),
            data_dir=Path(options["data_dir"]) if options["data_dir"] else None,
            pseudo_classes=options["pseudo_classes"],
            progress=progress,
        )
    _write_results(ranking, folder, as_json=options["as_json"])
    return 1 if ranking.failed else 0


def _check_options(options: dict[str, Any]) -> None:
    check_minimums(options, MINIMUMS)
    resamples = options["resamples"]
    backend = options["backend"]
    if 0 < resamples < MIN_RESAMPLES:
        raise UsageError(
            f"--resamples is {resamples}, which is too few to estimate intervals. Pass at least {MIN_RESAMPLES}, or 0 "
            "for no intervals."
        )
    if options["address"] and backend not in ("dask", "ray"):
        raise UsageError(f"--address applies to --backend dask and ray, not to {backend}.")
    if options["cluster_options"] and backend != "slurm":
        raise UsageError(f"--cluster applies to --backend slurm, not to {backend}.")


def _build_request(options: dict[str, Any]) -> "RankRequest":
    from modgap.ranking.scores import score_names
    from modgap.ranking.types import RankRequest

    return RankRequest(
        scores=tuple(score_names()) if "all" in options["scores"] else options["scores"],
        by=options["by"],
        resamples=options["resamples"],
        samples=sample_request({**options, "limit": options["limit"] or None}),
        head=options["head"],
        controls=not options["no_controls"],
        raw=not options["no_raw"],
        report_details=bool(options["out"]),
    )


def _build_backend(options: dict[str, Any]) -> "Backend":
    from modgap.ranking.backends import Backend

    cluster_options: dict[str, int | str] = {}
    for text in options["cluster_options"]:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--cluster is {text!r}. Expected KEY=VALUE, such as slurm_partition=gpu.")
        cluster_options[key] = int(value) if value.isdigit() else value
    return Backend(options["backend"], options["jobs"], options["address"], cluster_options)


def _write_results(ranking: "Ranking", folder: Path | None, *, as_json: bool) -> None:
    if folder:
        from modgap.ranking.result_folder import write_folder

        paths = write_folder(ranking, folder)
        click.echo(f"modgap: wrote {', '.join(map(str, paths))}", err=True)
    if as_json:
        from modgap.ranking.report import to_json

        click.echo(to_json(ranking))
    else:
        _print_ranking(ranking)


def _print_ranking(ranking: "Ranking") -> None:
    from modgap.cli.output import print_table, print_text, print_wide_table
    from modgap.ranking.recommendation import recommendation
    from modgap.ranking.report import failure_messages, ranking_table, scores_table

    if ranking.target:
        print_table(*ranking_table(ranking), _title(ranking))
        if len(ranking.tables) > 1:
            title = "other scores (↑ higher is better, ↓ lower is better, * best source by this score)"
            print_wide_table(*scores_table(ranking), title)
    for line in [*failure_messages(ranking), *recommendation(ranking)]:
        print_text(line)
    counts = [
        f"{stage}: {computed:,} computed, {cached:,} from the cache"
        for stage, (computed, cached) in ranking.jobs.items()
    ]
    print_text(f"jobs: {'; '.join(counts)}")


def _title(ranking: "Ranking") -> str:
    from modgap.ranking.scores import get_score

    target = ranking.target
    assert target is not None
    groups = f" in {target.groups:,} groups" if target.groups else ""
    direction = get_score(ranking.by).direction
    return f"{target.name}: N = {target.samples:,}{groups}, K = {target.classes}, ranked by {ranking.by} ({direction})"
