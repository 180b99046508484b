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
    from modgap.ranking.verdict import Verdict

__all__ = ["build_request", "rank"]

MIN_RESAMPLES = 10
"""Same as modgap.ranking.standings.MIN_SUBSAMPLES, which would make the help slow to import."""
CHECK_MARKS = {"fail": "x", "warn": "!", "info": "-"}
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
        from modgap.ranking.figures import planned_figures

        draw_figures(planned_figures(ranking), folder, formats)


def _print_ranking(ranking: "Ranking") -> None:
    from modgap.cli.output import print_table, print_text, print_title, print_wide_table
    from modgap.ranking.judgment import judge
    from modgap.ranking.recommendation import choice_statement, headline, help_statement, question
    from modgap.ranking.report import failure_messages, ranking_table, scores_table

    verdict = judge(ranking)
    print_title(question(ranking))
    print_text(headline(verdict))
    for statement in (choice_statement(verdict), help_statement(verdict)):
        print_text(f"{statement.title} {statement.label}: {statement.text}")
    if ranking.target:
        print_line()
        print_table(*ranking_table(ranking), _table_title(ranking))
    for line in failure_messages(ranking):
        print_text(line)
    _print_checks(verdict)
    if ranking.target and len(ranking.tables) > 1:
        print_line()
        title = "other scores (↑ higher is better, ↓ lower is better, * best source, no control above it)"
        print_wide_table(*scores_table(ranking), title)
    if ranking.layers:
        from modgap.ranking.layers import LAYER_COLUMNS, layer_rows

        print_line()
        print_table(LAYER_COLUMNS, layer_rows(ranking.layers), "Error of a linear probe by layer")
        for curve in ranking.layers:
            if curve.reason:
                print_text(f"{curve.source}: {curve.reason}")
    counts = [f"{stage}: {_job_counts(*jobs)}" for stage, jobs in ranking.jobs.items()]
    print_text(f"jobs: {'; '.join(counts)}")


def _job_counts(computed: int, cached: int, failed: int) -> str:
    failures = f", {failed:,} failed" if failed else ""
    return f"{computed:,} computed, {cached:,} from the cache{failures}"


def _print_checks(verdict: "Verdict") -> None:
    """Print the checks that did not pass, and the commands of the next step."""
    from modgap.cli.output import print_text
    from modgap.ranking.recommendation import check_statements, command_lines, next_step

    for statement in check_statements(verdict):
        if statement.status != "pass":
            print_text(f"{CHECK_MARKS[statement.status]} {statement.title}. {statement.text}")
    if step := next_step(verdict):
        print_line(f"\nNext step: {step}")
        for line in command_lines(verdict):
            print_line(f"  {line}")


def _table_title(ranking: "Ranking") -> str:
    from modgap.formatting import count
    from modgap.ranking.check_sentences import score_label
    from modgap.ranking.scores import PILOT, shown_score

    target = ranking.target
    assert target is not None
    groups = f", {count(target.groups, 'group')}" if target.groups else ""
    by = ranking.deciding_table.name
    name = score_label(by) if by == PILOT.name else by
    samples = f"{count(target.samples, 'sample')} ({ranking.request.samples.split_label})"
    return f"{samples}, {target.classes} classes{groups}, ranked by {name} ({shown_score(by).direction})"
