"""The command `modgap train`."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import cloup

from modgap.cli.completion import complete_folders, complete_methods
from modgap.cli.groups import example
from modgap.cli.options import (
    Options,
    check_minimums,
    custom_data_options,
    data_dir_option,
    device_option,
    input_size_option,
    json_option,
    option,
    option_group,
    pseudo_classes_option,
    quiet_option,
    sample_request,
    seed_option,
    source_option,
    target_option,
    target_request,
    weights_option,
)
from modgap.cli.output import log_to_stderr, print_answer, progress_bars
from modgap.errors import UsageError
from modgap.storage.paths import expand_user

if TYPE_CHECKING:
    from modgap.training.run_folder import Run
    from modgap.training.train import TrainRequest

PUBLISHED_ROWS = 12
"""Largest number of published results that are printed."""


@cloup.command(epilog=example("modgap train --method mona --source vit-fashion --target digits --out run"))
@option_group(
    "Method, source and target",
    option(
        "--method",
        metavar="NAME",
        required=True,
        shell_complete=complete_methods,
        help="Transfer method (modgap methods lists them); linear-probe for a linear model on the features of the "
        "source; or baseline for the best model of the target's own field, baseline:NAME for one (modgap baselines).",
    ),
    source_option(
        "Source model, as for modgap discrepancy. A baseline has none. A linear probe can have several, with commas "
        "between them and raw for the values of the samples, or all.",
        required=False,
    ),
    target_option(),
    weights_option,
)
@option_group(
    "Training",
    option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        help="Setting of the recipe, such as stage1.epochs=5 (modgap methods NAME lists them). Can be repeated.",
    ),
    option(
        "--sweep",
        metavar="KEY=VALUE,VALUE,...",
        multiple=True,
        help="Train with each of these values, and test the model with the lowest validation error. Can be repeated "
        "for all combinations. With --sampler optuna, KEY=LOW:HIGH is a range.",
    ),
    option("--trials", type=int, metavar="N", help="Number of combinations of --sweep that are tried."),
    option(
        "--sampler",
        type=click.Choice(["random", "optuna"]),
        default="random",
        help="How the combinations of --trials are chosen: drawn at random, or proposed by Optuna from the errors so "
        "far.",
    ),
    option(
        "--protocol",
        type=click.Choice(["validation", "orca", "labeled"]),
        default="validation",
        help="Samples that choose the epoch: a validation split, so the test split is used once; the test split "
        "(orca); or none, so that all labeled samples train (labeled, with stage2.choose=last).",
    ),
    seed_option,
    option("--resume", is_flag=True, help="Continue the run in --out from its newest checkpoint."),
)
@option_group(
    "Samples",
    option("--limit", type=int, help="Largest number of samples of each split; class proportions are kept."),
    input_size_option,
    pseudo_classes_option,
    data_dir_option(),
)
@custom_data_options
@option_group(
    "Hardware",
    device_option,
    option(
        "--jobs",
        type=int,
        metavar="N",
        help="Number of processes that run the trials of --sweep side by side, with one thread each. Without it they "
        "run one after the other, with all threads.",
    ),
)
@option_group(
    "Output",
    option(
        "--out",
        metavar="DIR",
        required=True,
        shell_complete=complete_folders,
        help="Folder for the record, log, checkpoints and weights.",
    ),
    option("--tensorboard", is_flag=True, help="Also write a TensorBoard log to DIR/tensorboard."),
    json_option,
    quiet_option,
)
def train(**options: Any) -> None:
    """Transfer a source model to a target, and test it once.

    To use several GPUs or machines, start the same command with torchrun or accelerate launch.
    """
    from modgap.jobs import Backend
    from modgap.training.sweep import parse_sweep, run_sweep
    from modgap.training.train import train as train_model
    from modgap.training.train_request import TrainRequest

    samples = sample_request(options)
    check_minimums(options, {"pseudo_classes": 2, "jobs": 1})
    request = TrainRequest(
        method=options["method"],
        source=options["source"] or "",
        target=target_request(options["target"], options),
        overrides=options["settings"],
        protocol=options["protocol"],
        samples=samples,
        weights=options["weights"],
    )
    sweep = parse_sweep(options["sweep"], options["trials"], options["sampler"])
    if sweep is None and options["jobs"]:
        raise UsageError("--jobs runs the trials of a sweep side by side. Pass --sweep, or leave --jobs out.")
    if sweep is not None and options["tensorboard"]:
        raise UsageError("--tensorboard writes the log of one run, so it cannot be combined with --sweep.")
    log_to_stderr(options["quiet"])
    folder = expand_user(options["out"])
    resume = options["resume"]
    with progress_bars(options["quiet"] or not _is_main_process()) as progress:
        if sweep is None:
            run = train_model(request, folder, resume=resume, progress=progress, tensorboard=options["tensorboard"])
        else:
            backend = Backend(options["jobs"]) if options["jobs"] else None
            run = run_sweep(request, folder, sweep, backend=backend, resume=resume, progress=progress)
    if _is_main_process():
        _print_run(run, request, options)


def _is_main_process() -> bool:
    """Return True in the one process that prints, of those that torchrun or accelerate started."""
    return os.environ.get("RANK", "0") == "0"


def _print_run(run: "Run", request: "TrainRequest", options: Options) -> None:
    from modgap.targets import manifest_names, named_manifest
    from modgap.training.answer import run_answer

    if options["as_json"]:
        click.echo(json.dumps(dict(run.record), allow_nan=False))
        return
    replaced = (("--weights", options["weights"]), ("--input-size", options["input_size"]))
    further = [text for name, value in replaced if value for text in (name, str(value))]
    answer = run_answer(run.record, str(run.folder), further)
    closing_notes = list(_baseline_notes(run, request))
    target = run.record["target"]
    if rows := named_manifest(target).published[:PUBLISHED_ROWS] if target in manifest_names() else ():
        closing_notes.append(f"Published: {', '.join(f'{row.method} {row.value:g}' for row in rows)}.")
    closing_notes.append(f"Results are in {run.folder}.")
    print_answer(replace(answer, notes=(*answer.notes, *closing_notes)))


def _baseline_notes(run: "Run", request: "TrainRequest") -> Iterator[str]:
    """Yield the validation error beside that of the best quick baseline of the field, for a run with epochs."""
    from modgap.training.fitted_run import best_quick_baseline, is_fitted

    result = run.record["result"]
    if is_fitted(request.method) or request.protocol != "validation" or not result or result.get("validation") is None:
        return
    try:
        baseline = best_quick_baseline(request)
    except Exception as failure:  # The libraries of baselines may fail in any way, and the training is finished.
        logging.getLogger("modgap").info("No baseline was fitted: %s", failure)
        return
    if baseline:
        name, error = baseline
        unit = f" {result['unit']}" if result["unit"] else ""
        metric = result["metric"].removesuffix(unit)
        yield (
            f"On the validation samples the {metric} is {result['validation']:.4g}{unit} ({result['chosen_by']}), and "
            f"that of the baseline {name}, which they did not choose, {error:.4g}{unit}."
        )
        if error < result["validation"]:
            yield f"The baseline may be the better model: pass --method baseline:{name} and no source for it."
