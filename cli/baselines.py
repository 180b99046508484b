"""The command `modgap baselines`."""

import cloup

from modgap.cli.completion import complete_baselines
from modgap.cli.groups import example
from modgap.cli.options import name_argument
from modgap.cli.output import print_line, print_sections, print_table, titled


@cloup.command(epilog=example("modgap baselines", "modgap baselines minirocket"))
@name_argument("baseline", complete_baselines)
def baselines(name: str | None) -> None:
    """List the baselines of a target's own field, or show one.

    They are models without pretraining, which modgap train --method baseline fits.
    """
    from modgap.baselines import baseline_names, baseline_origin, get_baseline

    if name is None:
        listed = [
            (one.name, ", ".join(one.kinds), _seconds(one.seconds), titled(one.title, baseline_origin(one.name)))
            for one in map(get_baseline, baseline_names())
        ]
        print_table(["baseline", "samples", "time", "what it is"], listed)
        print_line("The time is for 2,000 samples on one core, cross-validation included.")
        print_line(
            "modgap train --method baseline --target TARGET --out DIR takes the best of those that suit a target."
        )
        return
    baseline = get_baseline(name)
    rows = [
        ("comes from", baseline_origin(name)),
        ("reference", baseline.reference),
        ("samples", ", ".join(baseline.kinds)),
        ("tasks", ", ".join(baseline.tasks)),
        ("features", "; ".join(features.name for features in baseline.features)),
        ("settings", "; ".join(baseline.predictor.settings)),
        ("time", f"{_seconds(baseline.seconds)} for 2,000 samples on one core, cross-validation included"),
        ("needs", baseline.library or "nothing more"),
    ]
    print_sections(f"{baseline.name}: {baseline.title}", [("baseline", rows)])


def _seconds(seconds: float | None) -> str:
    return "not measured" if seconds is None else f"{seconds:,.0f} s"
