"""Compare a pretrained source with its random-weights control on four targets: a table and a figure.

    python benchmarks/demo.py            about two minutes on two cores, and half a minute from the cache

This is the paper's Fig. 4 with held-out errors and intervals. Expected result: the pretrained network has a lower
held-out error than one random initialization on the images (fashion-mnist, mnist5k). No difference is significant on
movements (basic-motions) and on appliance power (acsf1).
"""

import argparse

from modgap.answers.figures.files import save_figure
from modgap.api.discrepancy import measure
from modgap.cli.output import print_table, progress_bars
from modgap.discrepancy.answer import COLUMNS, table
from modgap.discrepancy.report import DiscrepancyReport
from modgap.discrepancy.target_figures import plot_targets
from modgap.storage.locks import create_output_folder

TARGETS = ("fashion-mnist", "mnist5k", "basic-motions", "acsf1")
SOURCES = ("efficientnet-lite0", "random:efficientnet-lite0")
ESTIMATORS = ("montecarlo", "search")


def rows(reports: list[DiscrepancyReport]) -> list[list[str]]:
    """Return the rows of the table, with source, target and chance level before the columns of an estimate."""
    return [
        [str(report.source), report.target, f"{report.result.chance:.3f}", *row]
        for report in reports
        for row in table(report.result).rows
    ]


def main() -> None:
    """Measure, print the table and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=500, help="largest number of samples of each target (default 500)")
    parser.add_argument("--input-size", type=int, default=128, help="input size in pixels (default 128)")
    parser.add_argument("--out", default="demo", help="folder for the figure (default demo)")
    options = parser.parse_args()
    folder = create_output_folder(options.out)
    samples = {"limit": options.limit, "input_size": options.input_size}
    reports: list[list[DiscrepancyReport]] = []
    for source in SOURCES:
        reports.append([])
        for target in TARGETS:
            print(f"{source} on {target}", flush=True)
            with progress_bars(quiet=False) as progress:
                report = measure(source, target, **samples, estimators=ESTIMATORS, progress=progress)
            reports[-1].append(report)
    print_table(
        ("source", "target", "chance", *COLUMNS),
        rows([report for part in reports for report in part]),
    )
    paths = save_figure(plot_targets(*reports), folder / "demo")
    print(f"figure: {paths[0].resolve()}")


if __name__ == "__main__":
    main()
