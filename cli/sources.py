"""`modgap sources`."""

import click

__all__ = ["sources"]


@click.command()
@click.argument("name", required=False)
def sources(name: str | None) -> None:
    """Source models by alias, or one shown whole. Besides these: timm:NAME, a folder, random:NAME."""
    from modgap.cli.output import print_table
    from modgap.errors import unknown_name
    from modgap.sources import source_infos

    infos = {info.name: info for info in source_infos()}
    if name:
        if name not in infos:
            raise unknown_name("source", name, infos, "(or timm:NAME, a folder, random:NAME)")
        info = infos[name]
        print_table(["field", "value"], [(key, str(getattr(info, key))) for key in info.__dataclass_fields__])
        return
    print_table(
        ["source", "classes", "parameters", "input", "licence", "here", "weights", "what"],
        [
            [i.name, f"{i.n_classes:,}" if i.n_classes else "none", f"{i.parameters / 1e6:.1f} M", i.input, i.licence,
             "yes" if i.available else "no", i.weights, i.title]
            for i in infos.values()
        ],
    )  # fmt: skip
    click.echo("also timm:NAME (any timm classifier), a folder in the hub's layout, random:NAME (the control)")
