"""`modgap methods`."""

import click

__all__ = ["methods"]


@click.command()
@click.argument("name", required=False)
def methods(name: str | None) -> None:
    """Methods of transfer, or one shown whole with the settings of its stages and their defaults."""
    from modgap.cli.output import print_sections, print_table
    from modgap.transfer.methods import method, method_names

    if name is None:
        rows = [(m.name, m.title, m.reference) for m in map(method, method_names())]
        print_table(["method", "what it does", "from"], rows)
        click.echo("modgap methods NAME shows its settings, which modgap train --set KEY=VALUE changes")
        return
    chosen = method(name)
    title = f"{chosen.name}: {chosen.title}"
    about = [("reference", chosen.reference), ("embedder starts", _start(chosen)),
             ("encoder starts", "from the source's weights" if chosen.pretrained else "at random")]  # fmt: skip
    print_sections(title, [("method", about), *_settings(chosen)])


def _start(chosen) -> str:
    return "from the source embedder's weights" if chosen.initial == "source" else "at random"


def _settings(chosen):
    """Settings of each stage that the method has, with default and meaning."""
    from modgap.transfer.recipe import EmbedderStage, FullStage, Recipe

    used = {stage.settings for stage in chosen.stages}
    stages = {"stage1": EmbedderStage, "stage2": FullStage}
    for name, model in stages.items():
        if name in used:
            yield f"{name} (defaults; a target's own recipe goes before)", list(_rows(model, f"{name}."))
    yield "both", [row for row in _rows(Recipe, "") if row[0] not in stages]


def _rows(model, prefix: str):
    for name, field in model.model_fields.items():
        default = "none" if field.default is None else str(field.get_default(call_default_factory=True))
        yield f"{prefix}{field.alias or name}", default, field.description or ""
