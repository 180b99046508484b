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
             ("encoder starts", "from the source's weights" if chosen.pretrained_encoder else "at random")]  # fmt: skip
    print_sections(title, [("method", about), *_settings(chosen)])


def _start(chosen) -> str:
    return "from the source embedder's weights" if chosen.embedder_start == "source" else "at random"


def _settings(chosen):
    """Settings of each stage that the method has, with default and meaning."""
    from modgap.targets import named_manifest
    from modgap.transfer.recipe import STAGES, Recipe, stage_settings

    used = {stage.settings for stage in chosen.stages}
    objectives = {stage.objective for stage in chosen.stages}
    # A target without a recipe of its own.
    own = {"stage1": chosen.defaults(named_manifest("digits"))}
    for name, model in STAGES.items():
        if name in used:
            rows = _rows(stage_settings(model, objectives), f"{name}.", own.get(name, {}))
            yield f"{name} (defaults; a target's own recipe goes before)", list(rows)
    both = {name: row for name, row in stage_settings(Recipe, ()).items() if name not in STAGES}
    yield "the whole run", list(_rows(both, "", {}))


def _rows(settings, prefix: str, own):
    """Values as they are written after --set."""
    for name, (default, meaning) in settings.items():
        value = own.get(name, default)
        yield f"{prefix}{name}", "[]" if value == () else str(value).lower(), meaning
