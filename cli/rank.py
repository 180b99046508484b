"""`modgap rank`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.groups import example
from modgap.cli.options import check_figure_formats, check_minimums, custom_data_from_options, sample_request
from modgap.cli.output import print_line
from modgap.cli.rank_options import rank_options
from modgap.errors import UsageError

if TYPE_CHECKING:
    from modgap.ranking.backends import Backend
    from modgap.ranking.progress_file import ProgressFile
    from modgap.ranking.types import Ranking, RankRequest

__all__ = ["build_request", "rank"]

MIN_RESAMPLES = 10
"""Same as modgap.ranking.standings.MIN_SUBSAMPLES, which would make the help slow to import."""
MINIMUMS = {"resamples": 0, "limit": 0, "jobs": 1, "pseudo_classes": 2, "splits": 1, "per_class": 1, "pilot": 0}


@cloup.command(epilog=example("modgap rank --target digits --sources vit-fashion,efficientnet-lite0"))
@rank_options
@click.pass_context
def rank(context: click.Context, /, **options: Any) -> int:
    """Rank sources by how well they should transfer to a target.

    Each source processes the target's samples once. Transferability scores are then computed from its features and
    logits. Scores that are means of errors by sample are compared sample by sample on the same splits, and other scores
    on random subsamples. All results are cached: after an interruption, or for another score, the same
    command computes only what is missing. The exit code is 1 if a source could not be scored.
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.ranking.rank import rank as rank_sources
    from modgap.ranking.source_patterns import parse_source_names
    from modgap.storage.output_folder import output_folder

    _check_options(options)
    check_figure_formats(context, options["out"])
    request = build_request(options)
    backend = _build_backend(options)
    log_to_stderr(options["quiet"])
    sources = parse_source_names(options["source_arguments"])
    with output_folder(options["out"]) as folder:
        with progress_bars(options["quiet"]) as progress, _progress_file(folder, backend) as listener:
            ranking = rank_sources(
                options["target"],
                sources,
                request,
                backend,
                custom_data=custom_data_from_options(options),
                data_dir=Path(options["data_dir"]) if options["data_dir"] else None,
                pseudo_classes=options["pseudo_classes"],
                budget=None if options["budget"] is None else 60 * options["budget"],
                progress=progress,
                listener=listener,
            )
        _write_ranking(ranking, folder, options["formats"], as_json=options["as_json"])
    return 1 if ranking.failed else 0


@contextmanager
def _progress_file(folder: Path | None, backend: "Backend") -> "Iterator[ProgressFile | None]":
    """Write how far the ranking is to its folder within a block, for `--status`."""
    if folder is None:
        yield None
        return
    from modgap.ranking.progress_file import ProgressFile

    processes = {"serial": 1, "loky": backend.processes}.get(backend.name)
    progress_file = ProgressFile(folder, processes)
    try:
        yield progress_file
    finally:
        progress_file.remove()


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


def build_request(options: dict[str, Any]) -> "RankRequest":
    """Return the request that the options of `modgap rank` or `modgap plan` describe."""
    from modgap.ranking.layer_numbers import parse_layers
    from modgap.ranking.score import ErrorOptions
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
        report_details=bool(options.get("out")),
        errors=ErrorOptions(options["weight"], options["splits"], options["per_class"]),
        layers=parse_layers(options.get("layers", "last")),
        pilot=options.get("pilot", 0),
    )


def _build_backend(options: dict[str, Any]) -> "Backend":
    from modgap.ranking.backends import Backend

    cluster_options: dict[str, int | str] = {}
    for text in options["cluster_options"]:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--cluster is {text!r}. Expected KEY=VALUE, such as slurm_partition=gpu.")
        cluster_options[key] = int(value) if value.isdecimal() else value
    return Backend(options["backend"], options["jobs"], options["address"], cluster_options)


def _write_ranking(ranking: "Ranking", folder: Path | None, formats: Sequence[str], *, as_json: bool) -> None:
    """Write the results to the folder and print them, and then draw the figure."""
    from modgap.cli.output import draw_figures, print_written

    if folder:
        from modgap.ranking.result_folder import write_results

        print_written(write_results(ranking, folder))
    if as_json:
        from modgap.ranking.report import to_json

        click.echo(to_json(ranking))
    else:
        _print_ranking(ranking)
    if folder:
        from modgap.ranking.result_folder import planned_figures

        draw_figures(planned_figures(ranking), folder, formats)


def _print_ranking(ranking: "Ranking") -> None:
    from modgap.cli.output import print_answer, print_text
    from modgap.ranking.answer import ranking_answer

    print_answer(ranking_answer(ranking))
    counts = [f"{stage}: {_job_counts(*jobs)}" for stage, jobs in ranking.jobs.items()]
    print_line()
    print_text(f"jobs: {'; '.join(counts)}")


def _job_counts(computed: int, cached: int, failed: int) -> str:
    failures = f", {failed:,} failed" if failed else ""
    return f"{computed:,} computed, {cached:,} from the cache{failures}"
