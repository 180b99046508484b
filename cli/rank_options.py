"""The options of `modgap rank`, by theme."""

import click

from modgap.cli.completion import (
    complete_folders,
    complete_scores,
    complete_source_list,
    complete_targets,
    heads_completer,
    names_completer,
)
from modgap.cli.options import (
    all_options,
    batch_size_option,
    custom_data_options,
    dtype_option,
    input_size_option,
    loader_workers_option,
    option_group,
    output_options,
    representation_option,
    sample_options,
    seed_option,
    weight_option,
)
from modgap.cli.rank_status import show_status
from modgap.errors import CUSTOM_DATA_FORMATS, UsageError

sources_option = click.option(
    "--sources",
    metavar="A,B,..|@diverse|@FILE|'timm:vit_*'",
    multiple=True,
    required=True,
    shell_complete=complete_source_list,
    help="Sources: names separated by commas (modgap sources lists them), @diverse for those on this machine with an "
    "open license and without near copies, @FILE for a file with one name in each line, or a pattern of timm models. A "
    "name may end with the input size, as in vit-b@64px. Can be repeated.",
)
target_option = click.option(
    "--target",
    metavar="NAME|@diverse|@FILE",
    multiple=True,
    required=True,
    shell_complete=complete_targets,
    help=f"Target data: a name (modgap targets lists them), {CUSTOM_DATA_FORMATS}, @FILE for a file with one of them "
    "in each line, or @diverse for the named ones on this machine with an open license and without near copies. Can be "
    "repeated: several targets make a matrix, which tells which source is best over all.",
)
score_options = (
    click.option(
        "--by",
        metavar="SCORE",
        shell_complete=complete_scores,
        help="Score that the sources are ranked by (modgap scores lists them). The default is transrate "
        "for classification targets, and discrepancy for multi-label and regression targets.",
    ),
    click.option(
        "--score",
        "scores",
        metavar="SCORE",
        multiple=True,
        shell_complete=complete_scores,
        help="A further score to show, or all. The default scores are shown if the option is absent. Can be repeated.",
    ),
    click.option("--no-controls", is_flag=True, help="Do not score random-weights controls of the sources."),
    click.option(
        "--baselines",
        metavar="WHICH",
        default="quick",
        show_default=True,
        help="Models of the target's field to compare with the sources by cross-validation: quick for those that take "
        "at most 10 seconds or about a fifth of the ranking's time, all, none, or names with commas between them.",
    ),
)
layers_option = click.option(
    "--layers",
    metavar="LAYERS",
    default="last",
    show_default=True,
    help="Layers of each source to score: last for the output alone, all, or numbers from 1 such as 2,4. The layer is "
    "chosen on one half of the samples and judged on the other.",
)


def _parse_pilot(_context: click.Context, _parameter: click.Parameter, value: str) -> int | str:
    """Return the number of sources, or `all`."""
    if value == "all":
        return value
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"--pilot is {value!r}. Expected a number of sources, or nothing for all of them.") from None


pilot_options = option_group(
    "Pilots and earlier targets",
    click.option(
        "--pilot",
        metavar="[N]",
        is_flag=False,
        flag_value="all",
        default="0",
        callback=_parse_pilot,
        help="Fine-tune all sources for 3 epochs on one half of at most 256 training samples. Their errors on other "
        "samples, with those of the same sources on earlier targets (modgap history), tell which source is best, how "
        "sure that is, and the error to expect. With a number N, the first N sources by earlier targets, or by the "
        "score without any, are fine-tuned for 10 epochs at three learning rates, with two more seeds at the best.",
    ),
    click.option(
        "--pilot-epochs",
        type=click.Choice(["1", "3", "10"]),
        metavar="1|3|10",
        help="Epochs of one fine-tuning of each source, at one learning rate.",
    ),
    click.option(
        "--minutes",
        type=float,
        metavar="M",
        help="Begin fine-tunings of --pilot as long as they are expected to end within so many minutes: of as many "
        "sources as the time suffices for, and then at three rates of those that may be the best.",
    ),
    click.option(
        "--history",
        type=click.Choice(["all", "none"]),
        default="all",
        show_default=True,
        help="all: earlier targets count where --by names no score, and the errors of the pilots are added to your "
        "history. none: the score and the pilots decide, and nothing is added.",
    ),
)
pass_options = option_group(
    "How samples pass through the sources",
    input_size_option,
    representation_option,
    click.option(
        "--head",
        metavar="NAME",
        default="auto",
        show_default=True,
        shell_complete=heads_completer("auto", "own", "none"),
        help="Classification head: own for the source's head, probe:SURROGATE to fit a linear head on labeled "
        "data, or none for features only. auto takes the source's head, or else fits one on labeled data of the "
        "source's modality.",
    ),
)
statistics_options = option_group(
    "Statistics",
    click.option(
        "--resamples",
        type=int,
        default=50,
        show_default=True,
        help="Number of random subsamples, each of nine tenths of the samples. The intervals of scores that are not "
        "means of errors by sample are estimated from them. 0 computes no such intervals.",
    ),
    weight_option,
    click.option(
        "--splits",
        type=int,
        default=20,
        show_default=True,
        help="Number of repeated splits of the samples into a part to fit on and a part to test on, for scores "
        "that fit maps. All sources have the same splits.",
    ),
    click.option(
        "--per-class",
        type=int,
        metavar="N",
        help="Fit maps on N samples of each class instead of on halves.",
    ),
    seed_option,
)
device_list_option = click.option(
    "--device",
    metavar="NAME",
    default="auto",
    show_default=True,
    shell_complete=names_completer("auto", "cpu", "cuda", "mps"),
    help="Device that the sources run on: auto, cpu, cuda, mps, or devices with commas between, such as "
    "cuda:0,cuda:2; cuda stands for all CUDA devices. One source at a time runs on each, or as many as a number after "
    "a star says, such as cuda*4 for small models.",
)
rank_options = all_options(
    option_group(
        "Sources and target",
        sources_option,
        target_option,
    ),
    option_group("Scores", *score_options, layers_option),
    pilot_options,
    sample_options(default_limit=2000, default_split="train"),
    custom_data_options,
    pass_options,
    statistics_options,
    option_group(
        "Hardware and cluster",
        device_list_option,
        dtype_option,
        batch_size_option,
        loader_workers_option,
        click.option(
            "--budget",
            type=float,
            metavar="MINUTES",
            help="End after about so many minutes: all sources are scored on few samples, the better half of them on "
            "more, and so on. The first round is always completed, and controls are scored only if the time suffices "
            "for all samples. The result says what was left out, and how close it was.",
        ),
        click.option(
            "--backend",
            type=click.Choice(["loky", "serial", "dask", "slurm", "pbs", "lsf"]),
            default="loky",
            show_default=True,
            help="Where the jobs run: in processes on this machine (loky), one after the other (serial), on a cluster "
            "of Dask (dask), or on workers of Dask that SLURM, PBS or LSF starts. The results are the same on machines "
            "of one kind.",
        ),
        click.option(
            "--jobs",
            type=int,
            metavar="N",
            help="Number of processes on this machine, or of workers that SLURM, PBS or LSF starts. The default is one "
            "for each core, or for each job up to 50.",
        ),
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="Address of a running cluster of Dask. The default is to start one on this machine.",
        ),
        click.option(
            "--cluster",
            metavar="KEY=VALUE",
            multiple=True,
            help="Option of a worker for --backend slurm, pbs and lsf, which is passed to dask-jobqueue, such as "
            "memory=16GB, queue=gpu or walltime=01:00:00. Can be repeated, for lists also with the same key.",
        ),
        click.option(
            "--shard",
            metavar="I/N",
            help="Run only the I-th of N shares of the jobs, and write their results to the cache alone, beside other "
            "commands that share it. When all shares are done, the same command without --shard ranks the sources.",
        ),
        click.option(
            "--cached",
            is_flag=True,
            help="Compute nothing: rank by the results that are in the cache, and tell what is absent.",
        ),
    ),
    option_group(
        "Progress",
        click.option(
            "--status",
            metavar="DIR",
            is_eager=True,
            expose_value=False,
            callback=show_status,
            shell_complete=complete_folders,
            help="Show how far the ranking is that another process writes to this folder (its --out), and exit.",
        ),
    ),
    output_options(
        "Write ranking.json, ranking.csv, ranking.png and, if the score is an error by sample, samples.npz to this "
        "folder; for several targets matrix.json, matrix.csv, matrix.tex, and a folder with the ranking of each. "
        "modgap report DIR makes a page of them."
    ),
)
