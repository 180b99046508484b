"""The command `modgap compare`."""

import click
import cloup

from modgap.cli.completion import complete_files, names_completer
from modgap.cli.groups import example
from modgap.cli.options import option, option_group, quiet_option
from modgap.cli.output import draw_figures, log_to_stderr, print_answer, progress_bars
from modgap.errors import UsageError
from modgap.storage.paths import expand_user

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")


@cloup.command(
    epilog=example(
        "modgap discrepancy --source vit-fashion --target digits --out a",
        "modgap discrepancy --source random:vit-fashion --target digits --out b",
        "modgap compare a b",
    )
)
@cloup.argument(
    "results",
    nargs=-1,
    required=True,
    metavar="RESULT...",
    shell_complete=complete_files,
    help="Folder that modgap discrepancy, distortion, train, transfer or rank wrote with --out, or a CSV file of "
    "errors: sample id, one column a system, and an optional column group. NAME=RESULT names the system of a folder, "
    "or the target of a file.",
)
@option_group(
    "Comparison",
    option(
        "--estimator",
        metavar="NAME",
        shell_complete=names_completer("search", "soft", "soft-matched"),
        help="Estimator of modgap discrepancy whose held-out errors are compared. The default is search if all folders "
        "have it, else soft.",
    ),
)
@option_group(
    "Output",
    option(
        "--format",
        "output_format",
        type=click.Choice(["table", "csv", "json", "latex", "markdown"]),
        default="table",
        help="Format of the output. latex needs the package booktabs; csv has one row for each pair and target.",
    ),
    option(
        "--figure",
        metavar="FILE",
        shell_complete=complete_files,
        help="Also draw the systems with their intervals to this .png, .svg or .pdf file.",
    ),
    quiet_option,
)
def compare(
    results: tuple[str, ...], estimator: str | None, output_format: str, figure: str | None, quiet: bool
) -> None:
    """Compare results on the same samples: paired differences, with p-values that are corrected for their number.

    Systems that do not differ significantly form groups. Over several targets, differences have an interval from 6
    targets on. Results that are not comparable are refused, with the reason.
    """
    from modgap.api.comparison import compare
    from modgap.storage.locks import create_output_folder

    path = None if figure is None else expand_user(figure)
    if path and path.suffix.lower() not in FIGURE_SUFFIXES:
        raise UsageError(f"--figure is {figure}, but it must end with {', '.join(FIGURE_SUFFIXES)}.")
    if path:
        # A folder that cannot be written to fails at once, before anything is read.
        create_output_folder(str(path.parent))
    log_to_stderr(quiet)
    with progress_bars(quiet):
        comparison = compare(*results, estimator=estimator)
    if output_format == "table":
        print_answer(comparison.answer)
    else:
        click.echo(comparison.to_text(output_format), nl=False)
    if path:
        from modgap.ranking.comparison.figure import planned_figure

        draw_figures([planned_figure(comparison, path.stem)], path.parent, [path.suffix.lower()[1:]])
