"""The command `modgap methods`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cloup

from modgap.cli.completion import complete_methods
from modgap.cli.groups import example
from modgap.cli.options import name_argument
from modgap.cli.output import print_line, print_sections, print_table, titled

if TYPE_CHECKING:
    from modgap.training.method import Method

Row = tuple[str, ...]
EMBEDDER_STARTS = {
    "random": "random weights",
    "source": "the source embedder's weights",
    "native": "the source's own embedder, with the source's own input",
}


@cloup.command(epilog=example("modgap methods", "modgap methods mona"))
@name_argument("method", complete_methods)
def methods(name: str | None) -> None:
    """List the transfer methods, or show one.

    A method is shown with the settings of its stages and their defaults, which modgap train --set changes.
    """
    from modgap.training.methods import get_method, method_names, method_origin

    if name is None:
        listed = [
            (one.name, titled(one.title, method_origin(one.name)), one.reference)
            for one in map(get_method, method_names())
        ]
        print_table(["method", "what it does", "reference"], listed)
        print_line(
            "Two further methods train nothing: linear-probe, and baseline, which needs no source (modgap baselines)."
        )
        print_line(
            "Run modgap methods NAME to see the settings of a method. modgap train --set KEY=VALUE changes them."
        )
        return
    method = get_method(name)
    summary = [
        ("comes from", method_origin(method.name)),
        ("reference", method.reference),
        ("embedder starts from", EMBEDDER_STARTS[method.embedder_start]),
        ("encoder starts from", "the source's weights" if method.pretrained_encoder else "random weights"),
    ]
    print_sections(f"{method.name}: {method.title}", [("method", summary), *_setting_sections(method)])


def _setting_sections(method: "Method") -> Iterator[tuple[str, list[Row]]]:
    """Yield a heading and the settings of each stage of the method, then those of the whole run."""
    from modgap.targets import named_manifest
    from modgap.training.methods import method_settings
    from modgap.training.recipe import FullStage

    # The manifest of digits has no recipe, so these are the method's defaults.
    rate = method.rate_factor * FullStage().learning_rate
    method_defaults = {"stage1": method.stage1_defaults(named_manifest("digits")), "stage2": {"learning_rate": rate}}
    for section, settings in method_settings(method).items():
        if settings:
            heading = f"{section} (defaults; the recipe of a target overrides them)" if section else "the whole run"
            prefix = f"{section}." if section else ""
            rows: list[Row] = []
            for name, (default, meaning) in settings.items():
                value = method_defaults.get(section, {}).get(name, default)
                # Values are shown as they are written after --set.
                rows.append(
                    (f"{prefix}{name}", str(list(value) if isinstance(value, tuple) else value).lower(), meaning)
                )
            yield heading, rows
