"""The command `modgap rank`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import (
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
    print_text,
    print_written,
    progress_bars,
)
from modgap.errors import CUSTOM_DATA_FORMATS, UsageError, count

if TYPE_CHECKING:
    from modgap.jobs import Backend
    from modgap.ranking.types import RankRequest

MINIMUMS = {"resamples": 0, "limit": 0, "jobs": 1, "pseudo_classes": 2, "splits": 1, "per_class": 1}
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
        "--jobs",
        type=int,
        metavar="N",
        help="Number of processes on this machine. With 1, the command runs all jobs itself, one after the other. The "
        "default is one for each core.",
    ),
    option(
        "--address",
        metavar="HOST:PORT",
        help="Address of the scheduler of a running cluster of Dask, whose workers run the jobs. Their cache folder "
        "must be that of this machine. The results are the same on machines of one kind.",
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
    from modgap.jobs import Backend
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
    if len(targets) > 1:
        for name, way_out in {**OF_ONE_TARGET, **dict.fromkeys(CUSTOM_DATA_FIELDS, MANIFESTS)}.items():
            if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
                raise UsageError(f"`{name}` applies to one target, and several were named. {way_out}")
    check_figure_formats(context, options["out"])
    backend = Backend(options["jobs"], options["address"])
    log_to_stderr(options["quiet"])
    sources = parse_source_names(options["sources"])
    with output_folder(options["out"]) as folder:
        if len(targets) > 1:
            return _rank_several(targets, sources, backend, folder, options)
        return _rank_one(targets[0], sources, backend, folder, options)


def _rank_one(target: str, sources: Sequence[str], backend: "Backend", folder: Path | None, options: Options) -> int:
    from modgap.ranking.rank import rank as rank_sources

    with progress_bars(options["quiet"]) as progress:
        request = _build_request(options)
        ranking = rank_sources(target_request(target, options), sources, request, backend, progress=progress)
    note = _describe_jobs({f"{stage}: ": counts for stage, counts in ranking.jobs.items()})
    print_result(ranking, folder, options["formats"], as_json=options["as_json"], note=note)
    return 1 if ranking.failed else 0


def _rank_several(
    targets: Sequence[str], sources: Sequence[str], backend: "Backend", folder: Path | None, options: Options
) -> int:
    from modgap.ranking.matrix.rankings import rank_targets, targets_of_names

    opened = targets_of_names(targets, options["pseudo_classes"])
    with progress_bars(options["quiet"]) as progress:
        request = _build_request({**options, "out": None})
        matrix = rank_targets(opened, sources, request, backend, progress)
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
    return 1 if matrix.failed or matrix.unreadable else 0


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


def _describe_jobs(jobs: Mapping[str, tuple[int, int, int]]) -> str:
    """Return the sentence that says how many jobs of each stage were computed."""
    counts = [
        f"{stage}{computed:,} computed, {cached:,} from the cache{f', {failed:,} failed' if failed else ''}"
        for stage, (computed, cached, failed) in jobs.items()
    ]
    return f"jobs: {'; '.join(counts)}"
