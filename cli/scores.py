"""The command `modgap scores`."""

from typing import TYPE_CHECKING

import cloup

from modgap.cli.completion import complete_scores
from modgap.cli.groups import example
from modgap.cli.options import name_argument
from modgap.cli.output import print_line, print_sections, print_table, titled

if TYPE_CHECKING:
    from modgap.ranking.score import Score


@cloup.command(epilog=example("modgap scores", "modgap scores logme"))
@name_argument("score", complete_scores)
def scores(name: str | None) -> None:
    """List the transferability scores of modgap rank, or show one."""
    from modgap.ranking.scores import DEFAULT_RANKING_SCORES, get_score, score_names, score_origin

    if name is None:
        listed = []
        for score in map(get_score, score_names()):
            better = "higher" if score.higher_is_better else "lower"
            title = titled(score.title, score_origin(score.name))
            listed.append((score.name, better, ", ".join(score.tasks), title))
        print_table(["score", "better", "tasks", "what it measures"], listed)
        defaults = ", ".join(f"{score_name} for {task}" for task, score_name in DEFAULT_RANKING_SCORES.items())
        print_line(f"Unless --by is given, modgap rank ranks by {defaults}.")
        return
    score = get_score(name)
    requirements = ["a classification head of the source"] if score.needs_logits else []
    requirements += ["labeled data of the source's own modality"] if score.needs_surrogate else []
    rows = [
        ("comes from", score_origin(score.name)),
        ("reference", score.reference),
        ("direction", score.direction),
        ("unit", score.unit or "none"),
        ("tasks", ", ".join(score.tasks)),
        ("needs", ", ".join(requirements) or "features only"),
        ("interval", _interval(score)),
        ("shown by default", "yes" if score.default else f"no; pass --score {score.name}"),
    ]
    print_sections(f"{score.name}: {score.title}", [("score", rows)])


def _interval(score: "Score") -> str:
    subsamples = "from random subsamples"
    if score.errors is None:
        return subsamples if score.uses_samples else "none, because it uses no samples"
    if set(score.error_tasks) >= set(score.tasks):
        return "from the errors of the samples"
    return f"from the errors of the samples ({', '.join(score.error_tasks)}), else {subsamples}"
