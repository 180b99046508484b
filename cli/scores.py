"""`modgap scores`."""

import click

__all__ = ["scores"]


@click.command()
@click.argument("name", required=False)
def scores(name: str | None) -> None:
    """Scores of transferability there are for modgap rank; one shown whole."""
    from modgap.cli.output import print_sections, print_table
    from modgap.ranking.scores import DEFAULTS, score, score_names

    if name is None:
        rows = [(s.name, _better(s), ", ".join(s.tasks), s.title) for s in map(score, score_names())]
        print_table(["score", "better", "targets of", "what it is"], rows)
        told = "; ".join(f"{task}: {by}" for task, by in DEFAULTS.items())
        click.echo(f"modgap rank ranks by these unless told otherwise (--by): {told}")
        return
    own = score(name)
    needs = [what for what, wanted in (("a head", own.needs_logits), ("its own data", own.needs_surrogate)) if wanted]
    print_sections(f"{own.name}: {own.title}", [("score", [
        ("from", own.reference), ("better", _better(own)), ("targets of", ", ".join(own.tasks)),
        ("needs of the source", ", ".join(needs) or "features"),
        ("interval", "from random halves of the samples" if own.resampled else "none: it looks at no sample"),
        ("taken when none are named", "yes" if own.usual else "no: --score " + own.name),
    ])])  # fmt: skip


def _better(own) -> str:
    return "higher" if own.higher_is_better else "lower"
