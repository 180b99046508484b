"""Tables and figures of docs/evidence.md, the third edition of the evidence, from its recorded lines.

    python benchmarks/evidence/third.py                 print the tables
    python benchmarks/evidence/third.py --check         fail if docs/evidence.md has other numbers
    python benchmarks/evidence/third.py --page          write the tables into docs/evidence.md
    python benchmarks/evidence/third.py --figures DIR   draw the figures, such as into docs

The lines are in benchmarks/truth/third and benchmarks/truth/ranking.jsonl, and modgap is not imported. Regrets of ways
to choose that modgap does not have any more are read from benchmarks/truth/third/choice_regrets.json.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import known_sources
from matplotlib.figure import Figure

from evidence import choice, drawing, methods
from evidence.lines import PARTS, THIRD, part_lines, read_lines
from evidence.models import Models, baseline_tables, transfer_errors, transfer_tables
from evidence.sensitivity import first_part_tables
from evidence.summaries import PrintedTable, interval_text

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "evidence.md"
PLANNED = dict(zip(PARTS, (1.4, 8.0, 7.0, 9.0, 13.0), strict=True))
"""Core-hours of each part that the protocol planned."""
CORES = {"transfer": 2}
NOT_COMPARED = ("seconds", "code")
FIGURES = {
    "A": ("evidence-choice", "Regret of each way to choose among the sources"),
    "B": ("evidence-baselines", "Error of the best probe minus that of the best baseline, by kind of target"),
    "C, second part": ("evidence-transfers", "Regret of whole transfers and of single strategies"),
    "D": ("evidence-methods", "Error of each method divided by that of fine-tuning"),
}
"""Name and description of the figure of an answer."""
BLOCK = re.compile(
    r"<!-- (?P<name>[^>]*?): written by third\.py -->\n\n(?P<text>.*?)\n\n<!-- end of (?P=name) -->", re.S
)
INTERVAL = re.compile(r"([-+]?\d+\.\d+) (?:points )?\[(-?\d+\.\d+), (-?\d+\.\d+)\]")


def all_tables() -> dict[str, list[PrintedTable]]:
    """Return the tables of each answer."""
    table, models = choice.read_table(), Models.read()
    return {
        "A": choice.choice_tables(table),
        "known sources": [known_sources_table()],
        "B": baseline_tables(models),
        "C, first part": first_part_tables(table, models),
        "C, second part": transfer_tables(models),
        "D": methods.method_tables(),
        "costs": [cost_table()],
    }


def known_sources_table() -> PrintedTable:
    """Return what the lists of known sources cost on the judging targets, which was looked at after the answers."""
    _, regrets = known_sources.judged_regrets()
    first = next(iter(regrets))
    rows = [
        [name, interval_text(values), "" if name == first else interval_text(regrets[first] - values)]
        for name, values in regrets.items()
    ]
    number = len(regrets[first])
    title = f"Mean regret in points on {number} judging targets, among all sources, with known sources by kind"
    return PrintedTable(title, ["way to choose", "regret [95 %]", f"{first}, minus it [95 %]"], rows)


def cost_table() -> PrintedTable:
    """Return the core-hours of each part, planned and spent, and how many repeated jobs gave the same numbers."""
    rows = []
    for part, planned in PLANNED.items():
        lines = part_lines(part)
        hours = CORES.get(part, 1) * sum(line["seconds"] for line in lines) / 3600
        rows.append([part, f"{len(lines):,}", f"{planned:g}", f"{hours:.1f}", _repeated(part)])
    heads = ["part", "jobs", "core-hours planned", "core-hours spent", "the same when repeated"]
    return PrintedTable("Jobs that are done", heads, rows)


def _repeated(part: str) -> str:
    """Return how many repeated jobs of a part differ in their seconds and their code alone; nothing without any."""
    path = THIRD / f"{part}.again.jsonl"
    if not path.exists():
        return ""
    before, after = read_lines(THIRD / f"{part}.jsonl"), read_lines(path)
    same = sum(
        all(value == line.get(name) for name, value in before[job].items() if name not in NOT_COMPARED)
        for job, line in after.items()
    )
    return f"{same} of {len(after)}"


def figures() -> dict[str, Figure]:
    """Return the figure of each answer that has one."""
    table = choice.read_table()
    drawn = (
        drawing.choice_figure(choice.all_regrets(table), table),
        drawing.baseline_figure(Models.read().chosen()),
        drawing.transfer_figure(transfer_errors(part_lines("transfer"))),
        drawing.method_figure(methods.runs_frame(methods.read_results())),
    )
    return dict(zip(FIGURES, drawn, strict=True))


# The page


def block_text(name: str, tables: Sequence[PrintedTable]) -> str:
    """Return what the page has between the marks of an answer: its figure, and its tables."""
    lines = [line for table in tables for line in (*table.markdown, "")]
    if name in FIGURES:
        file, description = FIGURES[name]
        lines = [f"![{description}]({file}.png)", "", *lines]
    return "\n".join(lines).strip()


def page_with(text: str, tables: Mapping[str, Sequence[PrintedTable]]) -> str:
    """Return the text of the page with these tables between its marks.

    Raises:
        ValueError: If the page has other marks than one pair for each answer.
    """
    names = [mark["name"].removeprefix("answer ") for mark in BLOCK.finditer(text)]
    if sorted(names) != sorted(tables):
        raise ValueError(f"The page has the blocks {sorted(names)}. Expected {sorted(tables)}.")

    def written(mark: re.Match[str]) -> str:
        name = mark["name"].removeprefix("answer ")
        return mark[0].replace(mark["text"], block_text(name, tables[name]))

    return BLOCK.sub(written, text)


def intervals_without_table(text: str) -> list[str]:
    """Return the intervals in the sentences of the page that no table of it has.

    "By 7.2 points" is said of a difference of -7.2, so both signs count.
    """
    rows = [line for line in text.splitlines() if line.startswith("|")]
    sentences = [line for line in text.splitlines() if not line.startswith("|")]
    written = {tuple(map(float, found)) for found in INTERVAL.findall("\n".join(rows))}
    absent = []
    for match in INTERVAL.finditer(" ".join(" ".join(sentences).split())):
        mean, low, high = map(float, match.groups())
        if not {(mean, low, high), (-mean, -high, -low)} & written:
            absent.append(match[0])
    return absent


def check(text: str, tables: Mapping[str, Sequence[PrintedTable]]) -> list[str]:
    """Return what is wrong with the text of the page, in sentences."""
    wrong = []
    if page_with(text, tables) != text:
        old, new = text.splitlines(), page_with(text, tables).splitlines()
        first = next((line for line in old if line not in set(new)), "a line is missing")
        wrong.append(f"A table of {PAGE.name} is not what the lines say, first: {first}")
    wrong += [f"No table of {PAGE.name} has the interval {one} of its text." for one in intervals_without_table(text)]
    return wrong


def main() -> None:
    """Print, check, write or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--figures", type=Path, metavar="DIR")
    options = parser.parse_args()
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        for name, figure in figures().items():
            figure.savefig(options.figures / f"{FIGURES[name][0]}.png")
        return
    tables, text = all_tables(), PAGE.read_text(encoding="utf-8")
    if options.page:
        PAGE.write_text(page_with(text, tables), encoding="utf-8")
    elif options.check:
        if wrong := check(text, tables):
            sys.exit("\n".join([*wrong, "Run: python benchmarks/evidence/third.py --page"]))
        print(f"{PAGE.name} has the numbers of the recorded lines.")
    else:
        for name, of_name in tables.items():
            print("\n".join([f"## {name}", "", *(line for table in of_name for line in (*table.markdown, ""))]))


if __name__ == "__main__":
    main()
