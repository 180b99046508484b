"""The command `modgap rank`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.groups import example
from modgap.cli.options import (
    CUSTOM_DATA_FIELDS,
    check_figure_formats,
    check_minimums,
    sample_request,
    target_request,
)
from modgap.cli.output import (
    log_to_stderr,
    print_answer,
    print_line,
    print_result,
    print_text,
    print_written,
    progress_bars,
)
from modgap.cli.rank_options import rank_options
from modgap.errors import UsageError

if TYPE_CHECKING:
    from modgap.errors import Progress
    from modgap.jobs import Backend
    from modgap.ranking.stages import ProgressFile
    from modgap.ranking.types import RankRequest

MINIMUMS = {"resamples": 0, "limit": 0, "jobs": 1, "pseudo_classes": 2, "splits": 1, "per_class": 1}
LISTS = ("job_extra_directives", "job_directives_skip", "job_script_prologue", "worker_extra_args")
"""Options of dask-jobqueue that are lists."""
MANIFESTS = "Describe data of your own in manifests, and pass their paths to --target."
ONE_BY_ONE = "Rank the targets one by one."
OF_ONE_TARGET = {
    "data_dir": "Say where data lies with modgap data path.",
    **dict.fromkeys(("layers", "pilot", "pilot_epochs", "minutes", "budget"), ONE_BY_ONE),
}
"""Options that apply to a single target, besides those of custom data, and what to do for several."""


@cloup.command(
    epilog=example(
        "modgap rank --target digits --sources vit-fashion,efficientnet-lite0",
        "modgap rank --target digits --target wine --sources vit-fashion --out matrix",
    )
)
@rank_options
@click.pass_context
def rank(context: click.Context, /, **options: Any) -> int:
    """Rank sources by how well they should transfer to a target, or to each of several and to all of them.

    Each source processes the target's samples once. Transferability scores are then computed from its features and
    logits. Scores that are means of errors by sample are compared sample by sample on the same splits, and other scores
    on random subsamples. All results are cached: after an interruption, or for another score, the same
    command computes only what is missing. The exit code is 1 if a source could not be scored.
    """
    from modgap.ranking.matrix.rankings import parse_shard
    from modgap.ranking.source_patterns import parse_source_names, parse_target_names
    from modgap.storage.locks import output_folder

    targets = parse_target_names(options["target"])
    _check_options(options)
    _check_engine(options)
    share = parse_shard(options["shard"]) if options["shard"] else None
    if len(targets) > 1:
        _check_several(context)
    check_figure_formats(context, options["out"])
    backend = _build_backend(options)
    log_to_stderr(options["quiet"])
    sources = parse_source_names(options["sources"])
    if share:
        return _run_share(targets, sources, backend, share, options)
    with output_folder(options["out"]) as folder:
        if len(targets) > 1:
            return _rank_several(targets, sources, backend, folder, options)
        return _rank_one(targets[0], sources, backend, folder, options)


def _rank_one(
    target: str, sources: Sequence[str], backend: "Backend", folder: Path | None, options: Mapping[str, Any]
) -> int:
    from modgap.ranking.rank import rank as rank_sources
    from modgap.ranking.report import RankingResult

    with _reports(folder, backend, options) as (progress, listener):
        ranking = rank_sources(
            target_request(target, options),
            sources,
            _build_request(options),
            backend,
            budget=None if options["budget"] is None else 60 * options["budget"],
            progress=progress,
            listener=listener,
        )
    note = _describe_jobs({f"{stage}: ": counts for stage, counts in ranking.jobs.items()})
    print_result(RankingResult.from_ranking(ranking), folder, options["formats"], as_json=options["as_json"], note=note)
    return 1 if ranking.failed else 0


def _rank_several(
    targets: Sequence[str], sources: Sequence[str], backend: "Backend", folder: Path | None, options: Mapping[str, Any]
) -> int:
    from modgap.ranking.matrix.rankings import rank_targets, targets_of_names

    opened = targets_of_names(targets, options["pseudo_classes"])
    with _reports(folder, backend, options) as (progress, listener):
        request = _build_request({**options, "out": None})
        matrix, rankings = rank_targets(opened, sources, request, backend, progress, listener)
    if folder:
        from modgap.errors import count
        from modgap.ranking.matrix.formats import write_results

        written = write_results(matrix, rankings, [target.name for target in opened], folder)
        # The rankings of all targets would be too long a list.
        print_written([path for path in written if path.parent == folder])
        print_line(f"modgap: and a folder with the ranking of each of {count(len(rankings), 'target')}", err=True)
    if options["as_json"]:
        from modgap.ranking.matrix.formats import to_json

        click.echo(to_json(matrix))
    else:
        from modgap.ranking.matrix.answer import matrix_answer

        print_answer(matrix_answer(matrix))
        print_line()
        print_text(_describe_jobs({"": matrix.jobs}))
    return 1 if matrix.failed or matrix.missing or matrix.unreadable else 0


def _run_share(
    targets: Sequence[str],
    sources: Sequence[str],
    backend: "Backend",
    share: tuple[int, int],
    options: Mapping[str, Any],
) -> int:
    """Run a share of the jobs, and say how many there were."""
    from modgap.errors import count
    from modgap.jobs import Failure
    from modgap.ranking.matrix.rankings import rank_share, targets_of_names

    one = [target_request(targets[0], options)]
    opened = one if len(targets) == 1 else targets_of_names(targets, options["pseudo_classes"])
    with _reports(None, backend, options) as (progress, _):
        results = rank_share(opened, sources, _build_request({**options, "out": None}), backend, share, progress)
    failures = [result for result in results if isinstance(result, Failure) and not result.is_result]
    n_computed, n_cached = results.count(True), results.count(False)
    number, shares = share
    print_line(
        f"Share {number} of {shares}: {count(len(results), 'job')}, {n_computed:,} computed, {n_cached:,} from the "
        f"cache, {len(failures):,} failed. When all shares are done, run the same command without --shard."
    )
    for failure in failures:
        print_line(f"Failed: {failure.reason}")
    return 1 if failures else 0


@contextmanager
def _reports(
    folder: Path | None, backend: "Backend", options: Mapping[str, Any]
) -> "Iterator[tuple[Progress | None, ProgressFile | None]]":
    """Show progress within a block, and write how far the jobs are to the folder, for `--status`."""
    from modgap.ranking.stages import ProgressFile

    with progress_bars(options["quiet"]) as progress:
        if folder is None:
            yield progress, None
            return
        processes = {"serial": 1, "loky": backend.processes()}.get(backend.name)
        progress_file = ProgressFile(folder, processes)
        try:
            yield progress, progress_file
        finally:
            progress_file.remove()


def _check_options(options: Mapping[str, Any]) -> None:
    from modgap.ranking.standings import MIN_SUBSAMPLES

    check_minimums(options, MINIMUMS)
    resamples = options["resamples"]
    if 0 < resamples < MIN_SUBSAMPLES:
        raise UsageError(
            f"--resamples is {resamples}, which is too few to estimate intervals. Pass at least {MIN_SUBSAMPLES}, or 0 "
            "for no intervals."
        )


def _check_engine(options: Mapping[str, Any]) -> None:
    """Raise if the options of where jobs run exclude each other."""
    from modgap.jobs import CLUSTERS

    backend = options["backend"]
    if options["shard"] and (options["address"] or backend not in ("loky", "serial")):
        other = "--address" if options["address"] else f"--backend {backend}"
        raise UsageError(
            f"--shard runs a share of the jobs on this machine, and {other} hands all jobs to one cluster. Remove one "
            "of the two."
        )
    if options["address"] and backend != "dask":
        raise UsageError(f"--address applies to --backend dask, not to {backend}.")
    if options["cluster"] and backend not in CLUSTERS:
        raise UsageError(f"--cluster applies to --backend slurm, pbs and lsf, not to {backend}.")
    for name, other in (("shard", "cached"), ("shard", "budget"), ("cached", "budget")):
        if options[name] and options[other] not in (None, False):
            raise UsageError(f"--{name} and --{other} exclude each other. Remove one of them.")


def _check_several(context: click.Context) -> None:
    """Raise if options of one target were passed with several."""
    for name, way_out in {**OF_ONE_TARGET, **dict.fromkeys(CUSTOM_DATA_FIELDS, MANIFESTS)}.items():
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"`{name}` applies to one target, and several were named. {way_out}")


def _build_request(options: Mapping[str, Any]) -> "RankRequest":
    from modgap.ranking.score import ErrorOptions
    from modgap.ranking.scores import score_names
    from modgap.ranking.source_patterns import parse_layers
    from modgap.ranking.types import RankRequest

    return RankRequest(
        scores=tuple(score_names()) if "all" in options["scores"] else options["scores"],
        by=options["by"],
        resamples=options["resamples"],
        samples=sample_request({**options, "limit": options["limit"] or None}),
        head=options["head"],
        controls=not options["no_controls"],
        baselines=options["baselines"],
        report_details=bool(options["out"]),
        errors=ErrorOptions(options["weight"], options["splits"], options["per_class"]),
        layers=parse_layers(options["layers"]),
        pilot=options["pilot"],
        pilot_epochs=options["pilot_epochs"] and int(options["pilot_epochs"]),
        minutes=options["minutes"],
        history=options["history"] == "all",
    )


def _build_backend(options: Mapping[str, Any]) -> "Backend":
    from modgap.jobs import Backend

    if options["cached"]:
        return Backend("cached")
    cluster_options: dict[str, Any] = {}
    for text in options["cluster"]:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--cluster is {text!r}. Expected KEY=VALUE, such as memory=16GB.")
        if key in LISTS:
            cluster_options.setdefault(key, []).append(value)
        else:
            cluster_options[key] = int(value) if value.isdecimal() else value
    return Backend(options["backend"], options["jobs"], options["address"], cluster_options)


def _describe_jobs(jobs: Mapping[str, tuple[int, int, int]]) -> str:
    """Return the sentence that says how many jobs of each stage were computed."""
    counts = [
        f"{stage}{computed:,} computed, {cached:,} from the cache{f', {failed:,} failed' if failed else ''}"
        for stage, (computed, cached, failed) in jobs.items()
    ]
    return f"jobs: {'; '.join(counts)}"
