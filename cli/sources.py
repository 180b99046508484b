"""`modgap sources`."""

import click

__all__ = ["sources"]

OTHERS = "timm:NAME, hf:NAME[@REVISION], a folder in transformers' or timm's layout, random: before any"


@click.command()
@click.argument("name", required=False)
def sources(name: str | None) -> None:
    """Source models by alias, or one shown whole. Besides these: timm:NAME, hf:NAME, a folder, random:NAME."""
    from modgap.cli.output import log_to_stderr, print_table, print_text
    from modgap.errors import unknown_name
    from modgap.sources import source_infos

    log_to_stderr(quiet=True)
    infos = {info.name: info for info in source_infos()}
    if name:
        if name not in infos:
            raise unknown_name("source", name, infos, f"(shown are sources with a short name; there are also {OTHERS})")
        print_table(["field", "value"], _fields(infos[name]))
        return
    rows = [[i.name, _count(i.n_classes, "none"), i.input, _yes(i.is_installed), i.title] for i in infos.values()]
    print_table(["source", "classes", "input", "here", "what"], rows)
    print_text("modgap sources NAME shows one whole, with its license, its surrogate and what brings its weights")
    print_text(f"also {OTHERS} (the control)")


def _fields(info) -> list[tuple[str, str]]:
    shown = {
        "n_classes": _count(info.n_classes, "none; a bare encoder, which takes --head probe:SURROGATE"),
        "parameters": f"{info.parameters:,}",
        "available": _yes(info.is_installed),
        "surrogate": _surrogate(info.surrogate),
    }
    return [(key, shown.get(key, str(getattr(info, key)))) for key in info.__dataclass_fields__]


def _count(number: int | None, absent: str) -> str:
    return f"{number:,}" if number else absent


def _surrogate(named: tuple[str, str] | None) -> str:
    return f"{named[0]} ({named[1]})" if named else "none"


def _yes(here: bool) -> str:
    return "yes" if here else "no"
