"""The answer of a comparison: the system of the lowest error, with tables of systems and pairs."""

import string
from collections.abc import Sequence

from modgap.answers import INFO, PASS, WARN, Answer, Table, Verdict
from modgap.answers.formatting import confidence_interval, format_interval, format_p_value, format_value
from modgap.errors import count, visible_name
from modgap.ranking.comparison.error_table import TRAINING
from modgap.ranking.comparison.systems import MIN_TARGETS, Comparison, SystemsComparison
from modgap.statistics.intervals import MIN_UNITS
from modgap.statistics.multiple_comparisons import SIGNIFICANCE_LEVEL

LONGEST_NAME = 40
NAME_LENGTHS = (25, LONGEST_NAME, 80)
"""Lengths to which names in tables are shortened; the first at which they stay different is used."""
MOST_PAIRS = 45
"""Largest number of pairs of which the tables show all; otherwise they show those with the first system."""
NAMES_LISTED = 4
MINUS = "−"


def comparison_answer(comparison: Comparison) -> Answer:
    """Return the answer of a comparison: the system of the lowest error, and which others do not differ from it."""
    main = comparison.main
    label, status = _label(main)
    first = main.systems[0]
    shown = confidence_interval(first.mean.interval, format_value)
    over = " mean over the targets" if comparison.over_targets else " error"
    lowest = f"{_name(first.name)} has the lowest{over}, {format_value(first.mean.value)}{shown}."
    sentence = f"{lowest} {_significance_sentence(main)}"
    return Answer(
        question="Which system has the lowest error?",
        facts=_facts(comparison),
        headline=f"{finding(main, _name(first.name), _name(str(main.target)))}.",
        verdicts=(Verdict("Is it significantly better than the others?", label, status, sentence),),
        tables=(_system_table(comparison), _pair_table(main)),
        notes=tuple(notes(comparison)),
    )


def _label(main: SystemsComparison) -> tuple[str, str]:
    """Return the answer to whether the first system is better than the others, and its status."""
    if main.groups is None:
        return "Unknown", INFO
    if not main.similar:
        return "Yes", PASS
    return ("Not shown" if len(main.similar) == len(main.systems) - 1 else "Than some"), WARN


def _facts(comparison: Comparison) -> tuple[str, ...]:
    main = comparison.main
    systems = f"{count(len(main.systems), 'system')} by {comparison.metric}"
    if comparison.over_targets:
        names = _names([str(one.target) for one in comparison.targets])
        return systems, f"{count(main.n_units, 'target')}: {names}", "lower is better"
    groups = (count(main.n_units, "group"),) if main.unit == "group" else ()
    return systems, f"{_name(str(main.target))}: {count(main.n_samples, 'sample')}", *groups, "lower is better"


def finding(main: SystemsComparison, first: str, target: str) -> str:
    """Return the finding in one sentence without its full stop, which is the headline and the title of the figure.

    Args:
        main: The comparison on one target, or over all.
        first: Name of the first system as shown.
        target: Name of the target as shown.
    """
    where = f"over {count(main.n_units, 'target')}" if main.target is None else f"on {target}"
    if main.groups is None:
        return f"{first} has the lowest error {where}; there are too few {main.unit}s to test differences"
    if not main.similar:
        return f"{first} is significantly better than {_others(len(main.systems) - 1)} {where}"
    similar = len(main.similar)
    phrase = f"{count(similar, 'system')} {'does' if similar == 1 else 'do'} not differ significantly from it"
    if similar == len(main.systems) - 1:
        phrase = "no difference is significant" if similar > 1 else "the difference is not significant"
    return f"{first} has the lowest error {where}; {phrase}"


def _others(n_others: int) -> str:
    return "the other system" if n_others == 1 else f"the {n_others} other systems"


def _significance_sentence(main: SystemsComparison) -> str:
    if main.groups is None:
        return too_few_sentence(main)
    similar, n_others = main.similar, len(main.systems) - 1
    holm = f"with Holm's correction for {count(main.n_tests, 'test')}" if main.n_tests > 1 else "one test"
    corrected = f"at the {100 * (1 - SIGNIFICANCE_LEVEL):.0f} % level, {holm}"
    if not similar:
        return f"It is significantly better than {_others(n_others)} ({corrected})."
    if n_others == 1:
        return f"It is not significantly different from {_name(similar[0])} ({corrected})."
    better = n_others - len(similar)
    also = f", and significantly better than {count(better, 'other system')}" if better else ""
    return f"It is not significantly different from {_names(similar)}{also} ({corrected})."


def too_few_sentence(main: SystemsComparison) -> str:
    """Return why there are no intervals and p-values."""
    if main.unit == "target":
        return (
            f"There is no interval and no p-value over {count(main.n_units, 'target')}, because they are too few "
            f"(at least {MIN_TARGETS})."
        )
    return (
        f"There is no interval and no p-value, because {count(main.n_units, main.unit)} are too few (at least "
        f"{MIN_UNITS})."
    )


def _system_table(comparison: Comparison) -> Table:
    """Return the systems with their errors and intervals; over targets, with the error on each and the mean."""
    main = comparison.main
    labels, names = letters(main), _table_names(main)
    targets = comparison.targets if comparison.over_targets else ()
    rows = []
    for one in main.systems:
        by_target = [format_value(target.mean_of(one.name)) for target in targets]
        interval = [] if targets else [format_interval(one.mean.interval, format_value)]
        rows.append([names[one.name], *by_target, format_value(one.mean.value), *interval, labels[one.name]])
    target_names = [visible_name(str(target.target), NAME_LENGTHS[0]) for target in targets]
    errors = (*target_names, "mean") if targets else ("error", "95 % CI")
    return Table(("system", *errors, "group"), rows)


def _pair_table(main: SystemsComparison) -> Table:
    """Return the pairs, with the first system of several pairs in a row of its own."""
    names = _table_names(main)
    rows: list[list[str]] = []
    first = None
    for pair in main.pairs if len(main.pairs) <= MOST_PAIRS else main.pairs_with_first:
        if pair.first != first:
            first = pair.first
            rows.append([names[first], "", "", "", ""])
        difference, p_values = pair.difference, (pair.difference.p_value, pair.corrected_p_value)
        shown = format_value(difference.value), format_interval(difference.interval, format_value)
        rows.append([f"  {MINUS} {names[pair.second]}", *shown, *map(format_p_value, p_values)])
    return Table(("systems", "difference", "95 % CI", "p", "Holm p"), rows)


def _table_names(main: SystemsComparison) -> dict[str, str]:
    """Return the names as tables show them, by the name of the system."""
    names = [one.name for one in main.systems]
    for length in NAME_LENGTHS:
        shown = [visible_name(name, length) for name in names]
        if len(set(shown)) == len(names):
            return dict(zip(names, shown, strict=True))
    return {name: f"{number}: {visible_name(name, NAME_LENGTHS[0])}" for number, name in enumerate(names, 1)}


def letters(main: SystemsComparison) -> dict[str, str]:
    """Return the letters of the groups of each system; two systems with a common letter do not differ significantly.

    Without p-values, and where there are too many for letters, a system has a dash.
    """
    return {
        one.name: "".join(string.ascii_letters[number] for number in one.groups) if main.groups else "-"
        for one in main.systems
    }


def notes(comparison: Comparison) -> list[str]:
    """Return the sentences below the tables: how to read them, and what they assume."""
    main = comparison.main
    lines = ["A difference below 0 means that the first system has the lower error on the same samples."]
    if main.groups:
        lines.append(
            "Two systems share a letter exactly if they are not significantly different: if their Holm-corrected "
            f"p-value is above {SIGNIFICANCE_LEVEL:g}."
        )
    elif main.groups is not None:
        lines.append("There are too many systems for letters (at most 60, in at most 52 groups).")
    if main.unit != "target":
        lines.append(f"Intervals are for one pair at a time, and for new {main.unit}s of this target.")
    elif main.groups is None:
        lines.append("Every target counts equally. Comparisons on each target are in --format csv and json.")
    else:
        lines.append(
            f"Every target counts equally. Intervals are Student's t over the differences on {main.n_units} targets. "
            "They are for one pair at a time, and for new targets like these."
        )
    if len(main.pairs) > MOST_PAIRS:
        lines.append(f"Only pairs with the first system are shown. --format csv has all {len(main.pairs):,}.")
    if comparison.kind == TRAINING:
        lines.append("Each system is one training run. The variation between seeds is not in the intervals.")
    return lines


def _name(name: str) -> str:
    return visible_name(name, LONGEST_NAME)


def _names(names: Sequence[str]) -> str:
    """Return names as a list in a sentence; of many, the first ones."""
    shown = [_name(name) for name in names[:NAMES_LISTED]]
    if len(names) > NAMES_LISTED:
        return f"{', '.join(shown)} and {len(names) - NAMES_LISTED} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
