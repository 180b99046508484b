"""`modgap discrepancy`."""

from dataclasses import fields

import click

from modgap.cli.options import (
    CUSTOM_DATA_OPTIONS,
    check_minimums,
    custom_data_from_options,
    custom_data_options,
    device_option,
    dtype_option,
    input_size_option,
    pseudo_classes_option,
    representation_option,
    sample_request,
    split_option,
)
from modgap.errors import CUSTOM_DATA_FORMATS, UsageError
from modgap.forward.sample_request import SampleRequest

__all__ = ["discrepancy"]

SAMPLE_OPTIONS = {field.name for field in fields(SampleRequest)} - {"seed"}
SOURCE_OPTIONS = {"source", "target", "weights", "head", "embedder", "pseudo_classes", "data_dir", *CUSTOM_DATA_OPTIONS}
"""Options that do not apply to --logits, because the logits are already computed."""
MINIMUMS = {
    "trials": 1,
    "subsets": 0,
    "restarts": 0,
    "classes": 2,
    "bound_seconds": 0,
    "null": 0,
    "bootstrap": 0,
    "pseudo_classes": 2,
    "threads": 1,
}
"""Smallest allowed values of the options that the request for samples does not check."""


def _batch_size(ctx: click.Context, parameter: click.Parameter, text: str) -> int | None:
    """Return the number, or None for `auto`."""
    if text == "auto":
        return None
    if not text.isdigit():
        raise UsageError(f"--batch-size is {text!r}, but it must be auto or a number of samples.")
    return int(text)


@click.command()
@click.option(
    "--source",
    metavar="NAME",
    help="Alias, timm:NAME, hf:NAME, a folder, a plug-in, or random: before one as a control.",
)
@click.option("--target", metavar="NAME", help=f"Manifest's name, {CUSTOM_DATA_FORMATS}.")
@click.option("--logits", metavar="FILE", help="Own logits: .npz or .safetensors with logits (N, C) and labels (N,).")
@click.option(
    "--weights",
    metavar="PATH",
    help="Take the source's weights from this file, or from a folder with its configuration.",
)
@click.option(
    "--estimator",
    type=click.Choice(["montecarlo", "assignment", "search", "all"]),
    default="all",
    show_default=True,
    help="Which to run.",
)
@click.option("--trials", type=int, default=100_000, show_default=True, help="Random maps.")
@click.option("--subsets", type=int, default=1000, show_default=True, help="Random subsets of the assignment.")
@click.option("--restarts", type=int, default=1, show_default=True, help="Restarts of the search.")
@click.option("--classes", type=int, metavar="K", help="Also compare K target classes at a time; allows K > C.")
@click.option("--balanced", is_flag=True, help="Means over classes instead of samples, for long-tailed classes.")
@click.option(
    "--measure",
    "measures",
    multiple=True,
    default=("zero-one",),
    show_default=True,
    type=click.Choice(["zero-one", "brier", "hellinger", "jensen-shannon", "kl", "total-variation"]),
    help="Also report this measure at each map found; may be repeated.",
)
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Of the softmax for --measure.")
@click.option(
    "--bound-seconds",
    type=float,
    default=0.0,
    show_default=True,
    help="Time for a certified lower bound, and as much for that of permuted labels; 0 for none.",
)
@click.option("--null", type=int, default=19, show_default=True, help="Repeats with permuted labels; 0 for none.")
@click.option(
    "--bootstrap", type=int, default=1000, show_default=True,
    help="Resamples of the held-out interval where the target has groups; 0 for no interval.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every draw.")
@split_option
@click.option("--limit", type=int, help="At most so many samples, chosen by seed, in proportion to the classes.")
@input_size_option
@representation_option
@custom_data_options
@click.option("--head", default="own", show_default=True, help="own, or probe:SURROGATE for a bare encoder.")
@click.option(
    "--embedder", metavar="native|RUN_DIR", default="native", show_default=True,
    help="What takes the samples in: the source's own, or that of a run's first stage, on samples it never saw.",
)  # fmt: skip
@pseudo_classes_option
@device_option
@click.option(
    "--batch-size",
    default="auto",
    show_default=True,
    callback=_batch_size,
    help="Samples at a time through the source.",
)
@dtype_option
@click.option("--threads", type=int, help="Threads of the estimators; all cores if absent. Changes no result.")
@click.option("--out", metavar="DIR", help="Write result.json and figures there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@click.option("--quiet", is_flag=True, help="No progress and no messages but warnings.")
@click.pass_context
def discrepancy(ctx: click.Context, **given) -> None:
    """How far the source model's knowledge is from the target data.

    Lower is nearer. Compare the held-out value with chance, and with other sources: the smallest
    value over random maps is optimistic and means nothing without its null.

    Example: modgap discrepancy --source efficientnet-lite0 --target digits
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.discrepancy.report import to_json

    _check(ctx, given)
    samples = sample_request(given)
    log_to_stderr(given["quiet"])
    folder = _folder(given["out"])
    with progress_bars(given["quiet"]) as progress:
        report = _measure(given, samples, progress)
    if folder:
        from modgap.discrepancy.result_folder import write_folder

        written = write_folder(report, folder)
        click.echo(f"modgap: wrote {', '.join(str(path) for path in written)}", err=True)
    if given["as_json"]:
        click.echo(to_json(report))
    else:
        _print(report)


def _folder(out: str | None):
    if out is None:
        return None
    from modgap.discrepancy.result_folder import create_output_folder

    return create_output_folder(out)


def _check(ctx: click.Context, given: dict) -> None:
    """Refuse what is out of range or would be ignored, before anything is loaded."""
    typed = {name for name in given if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE}
    if given["logits"]:
        for name in sorted(typed & (SAMPLE_OPTIONS | SOURCE_OPTIONS)):
            raise UsageError(f"--{name.replace('_', '-')} does not apply to --logits, which are already computed")
    elif not given["source"] or not given["target"]:
        raise UsageError("expected --source and --target, or --logits; see modgap discrepancy --help")
    check_minimums(given, MINIMUMS)
    for option, needed in (("subsets", "assignment"), ("restarts", "search")):
        if option in typed and given["estimator"] not in ("all", needed):
            raise UsageError(f"--{option} applies to --estimator {needed}, not to {given['estimator']}")
    if "temperature" in typed and given["measures"] == ("zero-one",):
        raise UsageError("--temperature applies to --measure other than zero-one")
    if not given["temperature"] > 0:
        raise UsageError(f"expected --temperature above 0, got {given['temperature']}")


def _measure(given: dict, samples: SampleRequest, progress):
    from pathlib import Path

    from modgap.api import measure_discrepancy, measure_logits_file
    from modgap.forward.logits import LogitsRequest

    options = ("trials", "subsets", "restarts", "classes", "balanced", "temperature", "bound_seconds", "null",
               "bootstrap", "seed", "threads")  # fmt: skip
    counted = {name: given[name] for name in options}
    counted["measures"] = [name for name in given["measures"] if name != "zero-one"]
    if given["estimator"] != "all":
        counted["estimators"] = [given["estimator"]]
    if given["logits"]:
        return measure_logits_file(given["logits"], progress=progress, **counted)
    request = LogitsRequest(samples, head=given["head"], compared=given["classes"])
    return measure_discrepancy(
        given["source"],
        given["target"],
        weights=given["weights"],
        custom_data=custom_data_from_options(given),
        data_dir=Path(given["data_dir"]) if given["data_dir"] else None,
        embedder=None if given["embedder"] == "native" else given["embedder"],
        pseudo_classes=given["pseudo_classes"],
        request=request,
        progress=progress,
        **counted,
    )


def _print(report) -> None:
    from modgap.cli.output import print_table
    from modgap.discrepancy.report import summary_row

    result = report.result
    names = f"{report.source} -> {report.target}" if report.source else report.target
    groups = f" in {result.n_groups:,} groups" if result.n_groups else ""
    size = f"N = {result.n_samples:,}{groups}, K = {result.n_target_classes} of C = {result.n_source_classes:,} classes"
    columns = ["estimator", "value", "its null", "p", "ratio to null", "held-out", "95 %", "its null", "p"]
    rows = [summary_row(name, estimate) for name, estimate in result.estimates.items()]
    if rows:
        print_table(columns, rows, f"{names}   {size}")
    else:
        # More target than source classes: only some can be compared at a time.
        click.echo(f"{names}   {size}")
    upper = (
        f"certified upper bound without a search {result.upper_bound:.3f}   " if result.upper_bound is not None else ""
    )
    what = "mean share of a class's samples got wrong" if result.balanced else "share of samples got wrong"
    click.echo(
        f"chance {result.chance:.3f}   guessing the largest class {result.prior:.3f}   {upper}({what}; lower is nearer)"
    )
    for remark in report.remarks():
        click.echo(remark)
    _print_measures(result)
    if result.k_way:
        _print_k_way(result.k_way)
    best = report.best_map()
    if best:
        click.echo(
            f"\nbest map ({result.best_estimator}): "
            + "; ".join(f"{a} = {b.split(',')[0]}" for a, b in best[:12])
            + _rest(best)
        )


def _print_measures(result) -> None:
    for name, estimate in result.estimates.items():
        for measure, value in estimate.measures.items():
            click.echo(f"{measure} at the map of {name}: {value:.4f}")


def _print_k_way(found) -> None:
    click.echo(
        f"\n{found.classes} classes at a time ({found.subsets} choices, {found.samples_per_class} samples a class), "
        f"chance {found.chance:.3f}:"
    )
    for name, e in found.estimates.items():
        line = f"  {name}: {e.value:.3f} ({e.interval[0]:.3f} - {e.interval[1]:.3f})"
        if e.held_out is not None:
            line += f", held-out {e.held_out:.3f} ({e.held_out_interval[0]:.3f} - {e.held_out_interval[1]:.3f})"
        click.echo(line)


def _rest(best: list) -> str:
    return f"; and {len(best) - 12} more" if len(best) > 12 else ""
