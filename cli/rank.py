"""The command `modgap rank`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import (
    complete_folders,
    complete_scores,
    complete_source_list,
    complete_targets,
    heads_completer,
    names_completer,
)
from modgap.cli.groups import example
from modgap.cli.options import (
    CUSTOM_DATA_FIELDS,
    Options,
    batch_size_option,
    check_figure_formats,
    check_minimums,
    custom_data_options,
    dtype_option,
    input_size_option,
    loader_workers_option,
    option,
    option_group,
    output_options,
    representation_option,
    sample_options,
    sample_request,
    seed_option,
    target_request,
    weight_option,
)
from modgap.cli.output import (
    log_to_stderr,
    print_answer,
    print_line,
    print_result,
    print_table,
    print_text,
    print_written,
    progress_bars,
)
from modgap.errors import CUSTOM_DATA_FORMATS, InputError, Progress, UsageError, count, format_duration
from modgap.storage.paths import expand_user

if TYPE_CHECKING:
    from modgap.jobs import Backend
    from modgap.ranking.stages import ProgressFile, RankingProgress, StageState
    from modgap.ranking.types import RankRequest

MINIMUMS = {"resamples": 0, "limit": 0, "jobs": 1, "pseudo_classes": 2, "splits": 1, "per_class": 1}
LISTS = ("job_extra_directives", "job_directives_skip", "job_script_prologue", "worker_extra_args")
"""Options of dask-jobqueue that are lists."""
MANIFESTS = "Describe data of your own in manifests, and pass their paths to --target."
ONE_BY_ONE = "Rank the targets one by one."
OF_ONE_TARGET = {
    "data_dir": "Say where data lies with modgap data path.",
    **dict.fromkeys(("layers", "pilot", "formats"), ONE_BY_ONE),
}
"""Options that apply to a single target, besides those of custom data, and what to do for several."""


def _parse_pilot(_context: click.Context, _parameter: click.Parameter, value: str) -> int | str:
    """Return the number of sources, or `all`."""
    if value == "all":
        return value
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"--pilot is {value!r}. Expected a number of sources, or nothing for all of them.") from None


STATUS_HEADS = ["stage", "jobs", "computed", "from cache", "failed", "running", "left", "ends"]


def _show_status(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Print how far the ranking of a folder is, and end the command."""
    if value is None or context.resilient_parsing:
        return
    from modgap.ranking.stages import read_progress

    folder = expand_user(value)
    running = read_progress(folder)
    if running is None:
        _print_finished(folder)
        context.exit()
    now = time.time() if running.is_alive else running.written
    state = "has run for" if running.is_alive else "was interrupted after"
    who = f"process {running.process} on {running.host}"
    print_line(f"The ranking in {folder} {state} {format_duration(now - running.began)} ({who}).")
    if not running.is_alive:
        print_line("Run the same command again: what is finished comes from the cache.")
    print_table(STATUS_HEADS, [_status_row(stage, running, now) for stage in running.stages])
    context.exit()


def _print_finished(folder: Path) -> None:
    from modgap.ranking.matrix.formats import RECORD as MATRIX
    from modgap.ranking.report import RECORD
    from modgap.storage.json_records import read_json

    record = read_json(folder / RECORD)
    matrix = {} if record else read_json(folder / MATRIX)
    if record.get("jobs"):
        print_line(f"The ranking in {folder} is finished.")
        rows = []
        for stage, counts in record["jobs"].items():
            computed, cached, failed = (int(counts.get(name, 0)) for name in ("computed", "cached", "failed"))
            numbers = (computed + cached + failed, computed, cached, failed)
            rows.append([stage, *(f"{number:,}" for number in numbers)])
        print_table(STATUS_HEADS[:5], rows)
    elif matrix.get("targets"):
        failures = f"{count(int(matrix.get('failed_jobs', 0)), 'job')} failed"
        print_line(f"The ranking in {folder} is finished, for {count(len(matrix['targets']), 'target')}. {failures}.")
    else:
        raise InputError(f"There is no ranking in {folder}. Pass the folder of --out.")


def _status_row(stage: "StageState", running: "RankingProgress", now: float) -> list[str]:
    counts = [f"{number:,}" for number in (stage.jobs, stage.computed, stage.cached, stage.failed)]
    at_work = running.running(stage)
    left = stage.seconds_left(now)
    if not running.is_alive or left is None:
        expected = ["-", "-"]
    elif not left:
        expected = ["-", "ended"]
    else:
        expected = [format_duration(left), time.strftime("%H:%M", time.localtime(now + left))]
    return [stage.stage, *counts, "-" if at_work is None else f"{at_work:,}", *expected]


@cloup.command(
    epilog=example(
        "modgap rank --target digits --sources vit-fashion,efficientnet-lite0",
        "modgap rank --target digits --target wine --sources vit-fashion --out matrix",
    )
)
@option_group(
    "Sources and target",
    option(
        "--sources",
        metavar="A,B,..|@diverse|@FILE|'timm:vit_*'",
        multiple=True,
        required=True,
        shell_complete=complete_source_list,
        help="Sources: names separated by commas (modgap sources lists them), @diverse for those on this machine with "
        "an open license and without near copies, @FILE for a file with one name in each line, or a pattern of timm "
        "models. A name may end with the input size, as in vit-b@64px. Can be repeated.",
    ),
    option(
        "--target",
        metavar="NAME|@diverse|@FILE",
        multiple=True,
        required=True,
        shell_complete=complete_targets,
        help=f"Target data: a name (modgap targets lists them), {CUSTOM_DATA_FORMATS}, @FILE for a file with one of "
        "them in each line, or @diverse for the named ones on this machine with an open license and without near "
        "copies. Can be repeated: several targets make a matrix, which tells which source is best over all.",
    ),
)
@option_group(
    "Scores",
    option(
        "--by",
        metavar="SCORE",
        shell_complete=complete_scores,
        help="Score that the sources are ranked by (modgap scores lists them). The default is transrate "
        "for classification targets, and discrepancy for multi-label and regression targets.",
    ),
    option(
        "--score",
        "scores",
        metavar="SCORE",
        multiple=True,
        shell_complete=complete_scores,
        help="A further score to show, or all. The default scores are shown if the option is absent. Can be repeated.",
    ),
    option("--no-controls", is_flag=True, help="Do not score random-weights controls of the sources."),
    option(
        "--baselines",
        metavar="WHICH",
        default="quick",
        help="Models of the target's field to compare with the sources by cross-validation: quick for those that take "
        "at most 10 seconds or about a fifth of the ranking's time, all, none, or names with commas between them.",
    ),
    option(
        "--layers",
        metavar="LAYERS",
        default="last",
        help="Layers of each source to score: last for the output alone, all, or numbers from 1 such as 2,4. The layer "
        "is chosen on one half of the samples and judged on the other.",
    ),
)
@option_group(
    "Pilots",
    option(
        "--pilot",
        metavar="[N]",
        is_flag=False,
        flag_value="all",
        default="0",
        show_default=False,
        callback=_parse_pilot,
        help="Fine-tune the first N known sources of this kind of target (all without N) for 10 epochs at three "
        "learning rates, on one half of at most 256 training samples, with two more seeds at the best. Their errors on "
        "other samples decide which is best. The time that it takes is told before.",
    ),
)
@sample_options(default_limit=2000, default_split="train")
@custom_data_options
@option_group(
    "How samples pass through the sources",
    input_size_option,
    representation_option,
    option(
        "--head",
        metavar="NAME",
        default="auto",
        shell_complete=heads_completer("auto", "own", "none"),
        help="Classification head: own for the source's head, probe:SURROGATE to fit a linear head on labeled "
        "data, or none for features only. auto takes the source's head, or else fits one on labeled data of the "
        "source's modality.",
    ),
)
@option_group(
    "Statistics",
    option(
        "--resamples",
        default=50,
        help="Number of random subsamples, each of nine tenths of the samples. The intervals of scores that are not "
        "means of errors by sample are estimated from them. 0 computes no such intervals.",
    ),
    weight_option,
    option(
        "--splits",
        default=20,
        help="Number of repeated splits of the samples into a part to fit on and a part to test on, for scores "
        "that fit maps. All sources have the same splits.",
    ),
    option("--per-class", type=int, metavar="N", help="Fit maps on N samples of each class instead of on halves."),
    seed_option,
)
@option_group(
    "Hardware and cluster",
    option(
        "--device",
        metavar="NAME",
        default="auto",
        shell_complete=names_completer("auto", "cpu", "cuda", "mps"),
        help="Device that the sources run on: auto, cpu, cuda, mps, or devices with commas between, such as "
        "cuda:0,cuda:2; cuda stands for all CUDA devices. One source at a time runs on each, or as many as a number "
        "after a star says, such as cuda*4 for small models.",
    ),
    dtype_option,
    batch_size_option,
    loader_workers_option,
    option(
        "--backend",
        type=click.Choice(["loky", "serial", "dask", "slurm", "pbs", "lsf"]),
        default="loky",
        help="Where the jobs run: in processes on this machine (loky), one after the other (serial), on a cluster "
        "of Dask (dask), or on workers of Dask that SLURM, PBS or LSF starts. The results are the same on machines "
        "of one kind.",
    ),
    option(
        "--jobs",
        type=int,
        metavar="N",
        help="Number of processes on this machine, or of workers that SLURM, PBS or LSF starts. The default is one "
        "for each core, or for each job up to 50.",
    ),
    option(
        "--address",
        metavar="HOST:PORT",
        help="Address of a running cluster of Dask. The default is to start one on this machine.",
    ),
    option(
        "--cluster",
        metavar="KEY=VALUE",
        multiple=True,
        help="Option of a worker for --backend slurm, pbs and lsf, which is passed to dask-jobqueue, such as "
        "memory=16GB, queue=gpu or walltime=01:00:00. Can be repeated, for lists also with the same key.",
    ),
    option(
        "--shard",
        metavar="I/N",
        help="Run only the I-th of N shares of the jobs, and write their results to the cache alone, beside other "
        "commands that share it. When all shares are done, the same command without --shard ranks the sources.",
    ),
    option(
        "--cached",
        is_flag=True,
        help="Compute nothing: rank by the results that are in the cache, and tell what is absent.",
    ),
)
@option_group(
    "Progress",
    option(
        "--status",
        metavar="DIR",
        is_eager=True,
        expose_value=False,
        callback=_show_status,
        shell_complete=complete_folders,
        help="Show how far the ranking is that another process writes to this folder (its --out), and exit.",
    ),
)
@output_options(
    "Write ranking.json, ranking.csv, ranking.png and, if the score is an error by sample, samples.npz to this "
    "folder; for several targets matrix.json, matrix.csv, matrix.tex, and a folder with the ranking of each. "
    "modgap report DIR makes a page of them."
)
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
    from modgap.ranking.standings import MIN_SUBSAMPLES
    from modgap.storage.locks import output_folder

    targets = parse_target_names(options["target"])
    check_minimums(options, MINIMUMS)
    if 0 < options["resamples"] < MIN_SUBSAMPLES:
        raise UsageError(
            f"--resamples is {options['resamples']}, which is too few to estimate intervals. Pass at least "
            f"{MIN_SUBSAMPLES}, or 0 for no intervals."
        )
    _check_engine(options)
    share = parse_shard(options["shard"]) if options["shard"] else None
    if len(targets) > 1:
        for name, way_out in {**OF_ONE_TARGET, **dict.fromkeys(CUSTOM_DATA_FIELDS, MANIFESTS)}.items():
            if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
                raise UsageError(f"`{name}` applies to one target, and several were named. {way_out}")
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


def _rank_one(target: str, sources: Sequence[str], backend: "Backend", folder: Path | None, options: Options) -> int:
    from modgap.ranking.rank import rank as rank_sources

    with _reports(folder, backend, options) as (progress, listener):
        ranking = rank_sources(
            target_request(target, options),
            sources,
            _build_request(options),
            backend,
            progress=progress,
            listener=listener,
        )
    note = _describe_jobs({f"{stage}: ": counts for stage, counts in ranking.jobs.items()})
    print_result(ranking, folder, options["formats"], as_json=options["as_json"], note=note)
    return 1 if ranking.failed else 0


def _rank_several(
    targets: Sequence[str], sources: Sequence[str], backend: "Backend", folder: Path | None, options: Options
) -> int:
    from modgap.ranking.matrix.rankings import rank_targets, targets_of_names

    opened = targets_of_names(targets, options["pseudo_classes"])
    with _reports(folder, backend, options) as (progress, listener):
        request = _build_request({**options, "out": None})
        matrix = rank_targets(opened, sources, request, backend, progress, listener)
    if folder:
        from modgap.ranking.matrix.formats import write_results

        written = write_results(matrix, [target.name for target in opened], folder)
        # The rankings of all targets would be too long a list.
        print_written([path for path in written if path.parent == folder])
        print_line(
            f"modgap: and a folder with the ranking of each of {count(len(matrix.rankings), 'target')}", err=True
        )
    if options["as_json"]:
        from modgap.storage.json_records import format_json

        click.echo(format_json(matrix.to_dict()))
    else:
        print_answer(matrix.answer)
        print_line()
        print_text(_describe_jobs({"": matrix.jobs}))
    return 1 if matrix.failed or matrix.missing or matrix.unreadable else 0


def _run_share(
    targets: Sequence[str],
    sources: Sequence[str],
    backend: "Backend",
    share: tuple[int, int],
    options: Options,
) -> int:
    """Run a share of the jobs, and say how many there were."""
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
    folder: Path | None, backend: "Backend", options: Options
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


def _check_engine(options: Options) -> None:
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
    if options["shard"] and options["cached"]:
        raise UsageError("--shard and --cached exclude each other. Remove one of them.")


def _build_request(options: Options) -> "RankRequest":
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
    )


def _build_backend(options: Options) -> "Backend":
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
