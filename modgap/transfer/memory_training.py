"""Training in memory, on samples that the caller chooses, without the folder of a run."""

from collections.abc import Callable, Collection

from modgap.models import TargetModel
from modgap.sources import Source
from modgap.transfer.evaluation import Evaluator
from modgap.transfer.loop import run_training_loop
from modgap.transfer.loop_setup import build_loop, stages_with_epochs
from modgap.transfer.methods import get_method
from modgap.transfer.recipe import choose_route, resolve_recipe
from modgap.transfer.run_files import RunFiles
from modgap.transfer.stage_surrogate import open_stage_surrogate
from modgap.transfer.train_request import TrainRequest
from modgap.transfer.training_data import TargetData

__all__ = ["Watch", "train_in_memory"]

Watch = Callable[[int, TargetModel, Evaluator], None]
"""A function of an epoch of stage 2, the model after it, and the evaluator of the target's metric."""


class _WatchedEpochs(RunFiles):
    """No files; a function looks at the model after the epochs that the recipe names."""

    def __init__(self, watch: Callable[[int, TargetModel], None]) -> None:
        super().__init__()
        self._watch = watch

    def save_epoch(self, epoch: int, model: TargetModel) -> None:
        self._watch(epoch, model)


def train_in_memory(
    request: TrainRequest, source: Source, data: TargetData, epochs: Collection[int], watch: Watch
) -> None:
    """Train a model as `train` does, but write nothing, and let a function look at it after some epochs.

    The samples are those of `data`, so that a caller can train on one part of the labeled samples and measure on
    another. After the same number of epochs the model has the same bits as that of `train` on the same samples.

    Args:
        request: Method, settings and seed. Its target and its limit do not apply.
        source: The source, loaded without its head.
        data: The target, with the rows to train, to validate and to test on.
        epochs: Epochs of stage 2 after which `watch` is called.
        watch: Function of the epoch, the model and the evaluator.

    Raises:
        UsageError: When a setting is invalid.
        InputError: When a surrogate is missing, or the loss becomes NaN or infinite.
    """
    method = get_method(request.method)
    manifest = data.target.manifest
    kept = f"stage2.keep_epochs={sorted(epochs)}"
    recipe = resolve_recipe(manifest, method.stage1_defaults(manifest), (*request.overrides, kept))
    recipe = choose_route(recipe, kinks=source.convolutional)
    stages = stages_with_epochs(method, recipe)
    surrogate = open_stage_surrogate(stages, recipe, source, request.source, request.samples.seed)
    files = _WatchedEpochs(lambda epoch, model: watch(epoch, model, loop.evaluator))
    loop = build_loop(request, method, recipe, data, source, surrogate, files)
    run_training_loop(loop)
