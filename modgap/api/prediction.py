"""`modgap.load_run`: a trained model to predict with."""

from pathlib import Path

from modgap.api.arguments import public_function
from modgap.training.run_folder import Run
from modgap.training.trained_model import TrainedModel, load_trained_model


@public_function
def load_run(
    path: str | Path | Run,
    *,
    epoch: int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    weights: str | None = None,
    allow_download: bool = False,
) -> TrainedModel:
    """Load the model that `modgap train` or `modgap.train` made, to predict with.

    The result has `predict`, `predict_proba`, `outputs` and `features`, which take samples as the user has them:
    arrays in the units of the target's files, paths of images or sounds, Pillow images, or a data frame with the
    columns of the training's table. Standardization, division into pieces and class names are inside.

    Args:
        path: The run, its folder, or a file that `modgap export --format safetensors` wrote.
        epoch: Epoch of stage 2 whose weights the run kept (`stage2.keep_epochs`); None for the chosen weights.
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: Number of inputs in a forward pass; None for the one in training, or on a GPU more. On the CPU,
            other batches can change the last digits.
        weights: File or folder of the source's weights, if it needs one to be opened.
        allow_download: True to download the source that the run names, if it is not on this machine. Allow it only for
            runs that you trust.

    Returns:
        The trained model.

    Raises:
        UsageError: If an argument is not possible.
        InputError: If the run is missing, was not finished, or was changed, if it kept no weights of the epoch, or if
            its source is not on this machine.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import modgap, numpy as np
        >>> with TemporaryDirectory() as folder:
        ...     settings = {"stage2.epochs": 1}
        ...     run = modgap.train("finetune", "vit-fashion", "digits", f"{folder}/run", settings=settings, limit=60)
        ...     model = modgap.load_run(run.folder)
        >>> model
        TrainedModel(finetune: vit-fashion -> digits, samples of shape (1, 8, 8), 10 classes)
        >>> images = np.zeros((2, 8, 8))
        >>> model.predict(images).shape, model.predict_proba(images).shape, model.features(images).shape
        ((2,), (2, 10), (2, 96))
    """
    folder = path.folder if isinstance(path, Run) else path
    return load_trained_model(
        folder, epoch=epoch, weights=weights, device=device, batch_size=batch_size, allow_download=allow_download
    )
