"""Four targets from near to far, a pretrained source and its random control: a table and a figure.

    python benchmarks/demo.py            about half a minute on two cores once everything is installed

In the manner of the paper's Fig. 4, with what that figure lacks: a null, a held-out value and an
interval. Expected: the pretrained source lies clearly below its random control on the images
(fashion-mnist, mnist5k); on the appliances' power the two are hardly told apart.
"""

import argparse
from pathlib import Path

from modgap.api import measure_discrepancy
from modgap.cli.output import print_table, progress_bars
from modgap.discrepancy import figures
from modgap.discrepancy.report import DiscrepancyReport, summary_row
from modgap.discrepancy.result_folder import create_output_folder
from modgap.figure_style import save_figure
from modgap.forward.logits import LogitsRequest
from modgap.forward.sample_request import SampleRequest

TARGETS = ("fashion-mnist", "mnist5k", "basic-motions", "acsf1")
ESTIMATORS = ("montecarlo", "search")
SOURCES = ("efficientnet-lite0", "random:efficientnet-lite0")
COLUMNS = (
    "source",
    "target",
    "estimator",
    "chance",
    "value",
    "its null",
    "p",
    "ratio_to_null",
    "held-out",
    "95 %",
    "its null",
    "p",
)


def rows(reports: list[DiscrepancyReport]) -> list[list[str]]:
    """One line for each report."""
    return [
        [str(r.source), r.target, name, f"{r.result.chance:.3f}", *summary_row("", r.result.estimates[name])[1:]]
        for name in ESTIMATORS
        for r in reports
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=500, help="samples of each target at most (default 500)")
    parser.add_argument("--input-size", type=int, default=128, help="pixels (default 128)")
    parser.add_argument("--out", default="demo", help="folder for the figure (default demo)")
    given = parser.parse_args()
    folder = create_output_folder(given.out)
    request = LogitsRequest(SampleRequest(limit=given.limit, input_size=given.input_size))
    series = []
    for source in SOURCES:
        series.append([])
        for target in TARGETS:
            print(f"{source} -> {target}", flush=True)
            with progress_bars(quiet=False) as progress:
                series[-1].append(
                    measure_discrepancy(source, target, request=request, estimators=ESTIMATORS, progress=progress)
                )
    print_table(COLUMNS, rows([report for reports in series for report in reports]))
    save_figure(figures.plot_across_targets(series, ["pretrained", "random weights"], ESTIMATORS), folder / "demo.png")
    print(f"figure: {Path(folder / 'demo.png').resolve()}")


if __name__ == "__main__":
    main()
