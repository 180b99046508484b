"""The command `modgap sources`."""

from typing import TYPE_CHECKING

import cloup

from modgap.cli.completion import complete_sources
from modgap.cli.groups import example
from modgap.cli.options import list_options, refuse_filters, weights_option
from modgap.cli.output import log_to_stderr, print_list, print_table, print_text
from modgap.errors import UsageError

if TYPE_CHECKING:
    from modgap.sources import SourceInfo


@cloup.command(
    epilog=example(
        "modgap sources", "modgap sources --kind sound --license open", "modgap sources vit-fashion",
        "modgap sources timm:resnet18",
    )
)  # fmt: skip
@cloup.argument(
    "name",
    required=False,
    shell_complete=complete_sources,
    help="Source to show, as --source takes it. Without it, all that have a short name are listed.",
)
@list_options("sources", "image, series, sound or text, or words of the input")
@weights_option
def sources(name: str | None, weights: str | None, kind: str | None, license: str | None, diverse: bool) -> None:
    """List the source models that have a short name, or show any source.

    Commands also take sources without a short name: timm:NAME, hf:NAME[@REVISION], PREFIX:NAME of a plug-in, or a
    folder. With random: in front, a source is the same architecture with random weights, as a control. Nothing is
    downloaded to show one.
    """
    from modgap.sources import describe_source, prefix_plugins, source_infos
    from modgap.targets.catalog import select

    log_to_stderr(quiet=True)
    if name:
        refuse_filters(name, kind, license, diverse)
        info = describe_source(name, weights=weights)
        surrogate = info.surrogate[0] if info.surrogate else "SURROGATE"
        formatted = {
            "n_classes": _format_count(info.n_classes, f"none (a bare encoder; pass --head probe:{surrogate})"),
            "parameters": f"{info.parameters:,}",
            "is_installed": _yes_or_no(info.is_installed),
            "surrogate": f"{info.surrogate[0]} (split {info.surrogate[1]})" if info.surrogate else "none",
            "near_copies": ", ".join(info.near_copies) or "none",
        }
        fields = info.__dataclass_fields__
        print_table(["field", "value"], [(field, formatted.get(field, str(getattr(info, field)))) for field in fields])
        return
    if weights:
        raise UsageError("--weights belongs to a source. Pass its name too: modgap sources timm:NAME --weights FILE.")
    infos = select(source_infos(), "source", kind=kind, license=license, diverse=diverse)
    columns = ["source", "kind", "classes", "parameters", "license", "installed", "description"]
    print_list(columns, [_list_row(info) for info in infos], infos)
    print_text("modgap sources NAME shows the input, the surrogate and the command that installs the weights.")
    prefixes = "".join(f"{prefix}:NAME, " for prefix in prefix_plugins())
    print_text(
        f"Other sources: timm:NAME, hf:NAME[@REVISION], {prefixes}or a folder in the layout of transformers or timm; "
        "random: in front of them gives the same architecture with random weights, as a control."
    )


def _list_row(info: "SourceInfo") -> list[str]:
    size = f"{info.parameters / 10**6:.3g} M"
    installed = _yes_or_no(info.is_installed)
    return [info.name, info.kind, _format_count(info.n_classes, "none"), size, info.license, installed, info.title]


def _format_count(number: int | None, absent: str) -> str:
    return f"{number:,}" if number else absent


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
