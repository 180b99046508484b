"""The surrogate of a run: opened before the training, so that what is missing is noticed and recorded early."""

from collections.abc import Sequence

from modgap.errors import InputError
from modgap.forward.surrogate_target import default_surrogate
from modgap.sources import Source
from modgap.targets import manifest_names
from modgap.transfer.method import Stage
from modgap.transfer.otdd import import_pot
from modgap.transfer.recipe import Recipe
from modgap.transfer.surrogate import Surrogate, open_surrogate

__all__ = ["has_outer_loss", "open_stage_surrogate"]


def has_outer_loss(recipe: Recipe) -> bool:
    """Return False if `mona` is the method `emb`: with lambda = 0 and the task loss."""
    return recipe.stage1.weight != 0 or not recipe.stage1.task_loss


def open_stage_surrogate(
    stages: Sequence[Stage], recipe: Recipe, source: Source, source_name: str, seed: int
) -> Surrogate | None:
    """Open the first half of the labeled surrogate data if a stage needs it; linear probes use the second half.

    Args:
        stages: Stages with epochs.
        recipe: All settings.
        source: The source, whose own embedder takes the surrogate.
        source_name: Name of the source, which decides its default surrogate.
        seed: Seed of the choice of samples.

    Raises:
        InputError: When the surrogate's data is missing.
        UsageError: When there is no such surrogate, or a package is missing.
    """
    objectives = {stage.objective for stage in stages}
    if "otdd" in objectives:
        import_pot()
    if not (objectives & {"otdd", "replay"} or ("mona" in objectives and has_outer_loss(recipe))):
        return None
    settings = recipe.stage1
    name = settings.surrogate
    split: str | None = settings.surrogate_split
    if name is None:
        name, default_split = default_surrogate(source_name)
        split = split or default_split
    try:
        return open_surrogate(name, source, split=split, half=0, limit=settings.surrogate_samples, seed=seed)
    except InputError as error:
        # --data-dir of `modgap train` is the target's directory, so the message names another command.
        register = f"Register its data with: modgap data path {name} --data-dir DIR. "
        raise type(error)(
            f"{error} This concerns {name}, the surrogate of stage 1. "
            f"{register if name in manifest_names() else ''}"
            "To use another surrogate, pass --set stage1.surrogate=NAME."
        ) from error
