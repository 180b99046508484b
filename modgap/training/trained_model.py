"""A model that `modgap train` made, to predict with: from samples as the user has them to classes or values.

It is in the folder of its run, or in one safetensors file with the weights, the preparation of samples and the record.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modgap.baselines.baseline import FittedBaseline
from modgap.errors import InputError, UsageError, check_minimum, first_line
from modgap.forward.batched_inference import BatchLimit
from modgap.labels.user_arrays import to_numpy
from modgap.models import TargetModel, target_model
from modgap.models.native_model import native_model
from modgap.process.devices import read_late
from modgap.process.resources import choose_device
from modgap.sources import Source, open_source
from modgap.sources.hub import without_downloads
from modgap.storage.damaged_files import DAMAGED_FILE_ERRORS
from modgap.storage.json_records import format_json, parse_json, plain_values
from modgap.storage.paths import expand_user, is_regular_file
from modgap.targets import Samples, Table
from modgap.targets.output import Output
from modgap.targets.readers.image_folder import ImageFiles, image_array
from modgap.targets.samples import SelectedSamples, TransformedSamples
from modgap.targets.sound import SoundFiles
from modgap.targets.unlabeled import rows_of_frame
from modgap.training.batches import chunks
from modgap.training.checkpoint import cpu_copies, load_tensors, part_of
from modgap.training.evaluation import evaluation_limit, launch_outputs
from modgap.training.fitted_run import is_fitted, read_fitted
from modgap.training.methods import get_method
from modgap.training.native_inputs import NativeTransform, restore_transform
from modgap.training.run_folder import Run, changed_record, check_record, epoch_file, open_run, reading_record
from modgap.training.trained_inputs import TrainedInputs, arrays_of, read_inputs
from modgap.training.training_data import InputTransform

if TYPE_CHECKING:
    from pandas import DataFrame

NO_HUB = ("a run does not contact a hub unless that is allowed", "If you trust the run, pass `allow_download=True`.")
"""Reason for which the source of a run is not downloaded, and how to allow it."""
LARGEST_SETTING = 1 << 30
FITTED_BATCH = 1000
"""Number of samples of a baseline or of a linear probe that are in memory at a time."""
PRECISIONS = ("float32", "bfloat16", "float64")
N_AXES = {"image": 3, "series": 2, "audio": 2, "video": 4}
"""Number of axes of a sample, by kind."""
RECORD_KEY = "modgap.run"
"""Name of the record of the run in the file's metadata."""
DIGEST_KEY = "modgap.digest"
"""Name of the SHA-256 of the record and the tensors, which finds damage."""
MODEL = "model"
INPUTS = "inputs"


@dataclass(frozen=True)
class Network:
    """A trained network with the division and standardization of its samples.

    Attributes:
        model: Embedder, encoder and predictor, in evaluation mode on the device.
        transform: Standardization of samples, and division into pieces.
        device: Device that it computes on.
        dtype: Precision of the parameters.
        limit: Largest number of inputs in a forward pass.
        autocast: Reduced precision of forward passes; None for that of the parameters.
    """

    model: TargetModel
    transform: InputTransform
    device: torch.device
    dtype: torch.dtype
    limit: BatchLimit
    autocast: torch.dtype | None

    def outputs(self, samples: Sequence[object], first: int) -> Callable[[], Tensor]:
        """Begin to compute the output for each prepared sample (n, ...): the mean over its pieces.

        The function that is returned waits for the outputs, and returns them in double precision.

        Args:
            samples: Samples after the target's steps, few enough to be in memory together.
            first: Number of the first of them in messages.

        Raises:
            InputError: When a sample has another shape than those in training, or is not finite.
        """
        return self._launch(self.model, samples, first)

    def features(self, samples: Sequence[object], first: int) -> Callable[[], Tensor]:
        """Begin to compute the mean over the encoder's tokens for each prepared sample, (n, D), as `outputs` does."""

        def pooled(batch: Tensor) -> Tensor:
            tokens = self.model.encode(self.model.embed(batch))
            return tokens[:, self.model.prefix_tokens :].mean(dim=1)

        return self._launch(pooled, samples, first)

    def _launch(
        self, function: Callable[[Tensor], Tensor], samples: Sequence[object], first: int
    ) -> Callable[[], Tensor]:
        pieces = []
        for number, sample in enumerate(samples, first):
            try:
                pieces.append(self.transform.pieces(sample))
            except InputError as error:
                raise _unfit(number, error) from error
        flat = [piece for of_sample in pieces for piece in of_sample]
        counts = [len(of_sample) for of_sample in pieces]
        rows = list(range(first, first + len(samples)))
        return launch_outputs(function, flat, counts, self.limit, self.device, self.dtype, self.autocast, rows)


def _unfit(number: int, error: InputError) -> InputError:
    return InputError(f"Sample {number} does not fit the model: {error}")


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with everything that it needs to know of its samples.

    Attributes:
        run: The run that trained it.
        predictor: The trained network, or the fitted baseline or linear probe.
        inputs: Preparation of samples, and the unit of the outputs.
        batch_size: Number of samples that are in memory at a time.
        announced: What was said about images, so that it is said once.
    """

    run: Run
    predictor: Network | FittedBaseline
    inputs: TrainedInputs
    batch_size: int
    announced: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def network(self) -> Network:
        """The trained network.

        Raises:
            UsageError: When the model is a baseline or a linear probe.
        """
        if not isinstance(self.predictor, Network):
            raise UsageError(
                f"The model of the run in {self.run.folder} is {self.predictor.name}, which was fitted without "
                "training a network. `modgap predict` makes its predictions, and `modgap export --format safetensors` "
                "one file."
            )
        return self.predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the outputs; empty for real values."""
        return self.inputs.classes

    @property
    def task(self) -> str:
        """`classification`, `multi-label` or `regression`."""
        return self.inputs.output.task

    def __repr__(self) -> str:
        """Name the run, the shape of a sample and the output."""
        record = self.run.record
        outputs = f"{len(self.classes)} classes" if self.classes else f"values of shape {self.inputs.output.shape}"
        source = f"{record['source']} -> " if record["source"] else ""
        shape = self.inputs.inputs.shape
        samples = f"samples of shape {shape}" if shape else "texts"
        return f"TrainedModel({record['method']}: {source}{record['target']}, {samples}, {outputs})"

    def state(self) -> dict[str, Tensor]:
        """Return the weights of the network, or the arrays of the baseline, by name."""
        if isinstance(self.predictor, Network):
            return dict(self.predictor.model.state_dict())
        return {name: torch.from_numpy(array.copy()) for name, array in self.predictor.state()[1].items()}

    def predict(self, samples: Any) -> np.ndarray:
        """Predict the class, the labels or the values of each sample.

        Args:
            samples: N samples in the form of the target's files: arrays (C, H, W) of images, (C, length) of series, or
                (1, length) of sound at the target's sampling rate, as a list or an array with an axis of samples;
                arrays (T, C, H, W) of videos; texts; paths of images or sounds; Pillow images; or the table of
                `modgap.open_target(...).read()`. A single channel may be left out.

        Returns:
            Names of the classes, shape (N,); for several labels a sample Booleans (N, K), True for a probability above
            one half; for regression values (N, channels, ...) in the target's unit.

        Raises:
            UsageError: When the samples are no such sequence.
            InputError: When a sample has another shape than those in training, or is not finite.
        """
        outputs = self.outputs(samples)
        if self.task == "classification":
            return np.asarray(np.array(self.classes)[outputs.argmax(axis=1)])
        return np.asarray(outputs > 0) if self.task == "multi-label" else outputs

    def predict_proba(self, samples: Any) -> np.ndarray:
        """Return the probability of each class or label, shape (N, K).

        Those of classes sum to 1; those of several labels do not. They are not calibrated.

        Args:
            samples: N samples, as for `predict`.

        Raises:
            UsageError: When the model predicts real values, or as `predict` does.
            InputError: As `predict` does.
        """
        if self.task == "regression":
            raise UsageError("The model predicts real values, which have no probability. Call predict.")
        outputs = torch.from_numpy(self.outputs(samples))
        probabilities = outputs.softmax(1) if self.task == "classification" else outputs.sigmoid()
        return np.asarray(probabilities)

    def outputs(self, samples: Any) -> np.ndarray:
        """Return the logits (N, K), or the values (N, channels, ...) in the target's unit, in double precision.

        The output for a sample of several pieces, such as windows of a recording, is the mean over its pieces.

        Args:
            samples: N samples, as for `predict`.

        Raises:
            UsageError: As `predict` does.
            InputError: As `predict` does.
        """
        predictor = self.predictor

        def launch(some: Sequence[object], first: int) -> Callable[[], Tensor | np.ndarray]:
            if isinstance(predictor, Network):
                return predictor.outputs(some, first)
            scores = predictor.scores(some, first)
            return lambda: scores

        values = self._compute(launch, samples)
        mean, sd = self.inputs.scale or (None, None)
        return values if mean is None or sd is None else np.asarray(values * sd + mean)

    def features(self, samples: Any) -> np.ndarray:
        """Return the features that the predictor sees: the mean over the encoder's tokens, shape (N, D), float64.

        Args:
            samples: N samples, as for `predict`.

        Raises:
            UsageError: As `predict` does, or when the model is a baseline or a linear probe.
            InputError: As `predict` does.
        """
        return self._compute(self.network.features, samples)

    def _compute(
        self, launch: Callable[[Sequence[object], int], Callable[[], Tensor | np.ndarray]], samples: Any
    ) -> np.ndarray:
        """Return values for samples (N, ...), batch by batch, so that few are in memory at a time.

        A device computes the values of a batch while the next one is prepared.
        """
        # The samples of a table have passed through the target's steps.
        is_prepared = isinstance(samples, Table)
        sequence = samples.samples if is_prepared else self._sequence(samples)

        def read(row: int) -> Any:
            """Return a sample after the target's steps."""
            try:
                sample = sequence[row] if is_prepared else self.inputs.prepared(self._array(sequence[row]))
                self.inputs.check_length(sample)
                return sample
            except InputError as error:
                raise _unfit(row, error) from error

        batches = (batch.tolist() for batch in chunks(np.arange(len(sequence)), self.batch_size))
        launched = (launch([read(row) for row in rows], rows[0]) for rows in batches)
        return np.concatenate([np.asarray(values) for values in read_late(launched)])

    def _sequence(self, samples: Any) -> Samples:
        """Return samples as a sequence, or raise if they are one sample, or none."""
        kind = self.inputs.inputs.spec.kind
        if isinstance(samples, str | Path):
            noun = "text" if kind == "text" else "path"
            raise UsageError(f"Expected a sequence of samples, got one {noun}. Pass a list: [{str(samples)!r}].")
        if hasattr(samples, "iloc") and samples.ndim == 1:
            samples = samples.tolist()  # a pandas series counts its rows by their labels
        is_frame = hasattr(samples, "columns") and hasattr(samples, "to_numpy")
        is_table = is_frame and self.inputs.columns is not None and len(samples) > 0
        is_sequence = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        if (is_frame and not is_table) or isinstance(samples, bytes | Mapping) or not is_sequence:
            values = " For the values of a data frame, pass frame[COLUMNS].to_numpy()." if is_frame else ""
            raise UsageError(
                f"Expected a sequence of samples, got {type(samples).__name__}. Pass a list or an array.{values}"
            )
        if len(samples) == 0:
            raise UsageError("There are no samples to predict.")
        is_array = isinstance(samples, np.ndarray | Tensor) and kind != "text"
        if is_array and samples.ndim not in (N_AXES[kind], N_AXES[kind] + 1):
            raise UsageError(
                f"Samples of kind {kind} have {N_AXES[kind]} axes, so an array of them has {N_AXES[kind] + 1}, or one "
                f"less if they have one channel. Got the shape {tuple(samples.shape)}."
            )
        if self.inputs.transforms is None:
            raise UsageError(
                "The target's steps of preprocessing cannot be applied to single samples, because they cut windows, or "
                "the training read a converted copy. Predict for the table of the target: open_target(NAME).read()."
            )
        if is_table:
            return self._rows(samples)
        if isinstance(samples, TransformedSamples | SelectedSamples):
            raise UsageError("These samples have passed through the target's steps. Pass their table itself.")
        return cast(Samples, samples)

    def _rows(self, frame: "DataFrame") -> Samples:
        """Return the rows of a data frame, or its series in the order in which they begin."""
        inputs = self.inputs
        assert inputs.columns is not None
        named = (inputs.series_column, inputs.time_column, inputs.group_column)
        new = rows_of_frame(frame, "data frame", inputs.columns, named, keep_missing=inputs.fills_missing)
        return new.samples if new.order is None else SelectedSamples(new.samples, new.order)

    def _array(self, sample: Any) -> Any:
        """Return one sample as an array with an axis of channels, or as a text."""
        spec = self.inputs.inputs.spec
        if spec.kind == "text":
            if not isinstance(sample, str):
                raise InputError(f"It is no text, but of type {type(sample).__name__}.")
            return str(sample)
        if isinstance(sample, str | Path):
            path = Path(sample)
            if path.exists() and not is_regular_file(path):
                raise InputError(f"{path} is not a file. Pass the path of a file.")
            if spec.kind == "image":
                return self.inputs.picture(ImageFiles((path,), self.inputs.background, self.announced)[0])
            if spec.kind == "audio" and spec.rate is not None:
                return SoundFiles(((str(path),),), int(spec.rate))[0]
            rows = " Pass a data frame with the table's columns." if self.inputs.columns is not None else ""
            raise UsageError(
                f"Samples of kind {spec.kind} are arrays, not paths such as {path}. Read them first.{rows}"
            )
        if hasattr(sample, "convert") and hasattr(sample, "getbands"):
            return self.inputs.picture(image_array(sample, self.inputs.background))
        array = to_numpy(sample, "the sample")
        if array.dtype.kind not in "biuf":
            raise InputError(f"It has values of type {array.dtype}. Expected real numbers.")
        return array[None] if array.ndim == N_AXES[spec.kind] - 1 else array


def load_trained_model(
    path: str | Path,
    *,
    epoch: int | None = None,
    weights: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    allow_download: bool = False,
) -> TrainedModel:
    """Load the model of a finished run.

    Args:
        path: Folder that `modgap train` wrote, or file that `modgap export --format safetensors` wrote.
        epoch: Epoch of stage 2 whose weights the run kept; None for the chosen weights.
        weights: File or folder of the source's weights, if the source needs one to be opened. Its values are replaced.
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: Number of inputs in a forward pass; None for the one in training, or on a GPU more.
        allow_download: True to let the source that the run names be downloaded from a hub. Otherwise, it must be on
            this machine, because the record of a run may come from elsewhere.

    Raises:
        UsageError: When an argument is not possible.
        InputError: When the run is missing, was not finished, or was changed, when it kept no weights of the epoch, or
            when its source is not on this machine and may not be downloaded.
    """
    check_minimum("batch_size", batch_size, 1)
    location = expand_user(path)
    if location.is_file():
        if epoch is not None:
            raise UsageError(
                f"{location} has the weights of one epoch. Leave out the epoch, or pass the folder of the run."
            )
        run, state, arrays = read_model_file(location)
        inputs = read_inputs(run, arrays)
    else:
        run = open_run(location)
        state = load_tensors(_weights_file(run, epoch))
        inputs = read_inputs(run)
    record = run.record
    if is_fitted(record["method"]):
        with contextlib.nullcontext() if allow_download else without_downloads(*NO_HUB):
            fitted = read_fitted(run, state, inputs, device, weights)
        return TrainedModel(run, fitted, inputs, batch_size or FITTED_BATCH)
    _check_settings(run)
    with contextlib.nullcontext() if allow_download else without_downloads(*NO_HUB):
        source = open_source(record["source"], weights=weights).load(record["input_size"], head=False)
    transform = run_transform(run, inputs.inputs, source)
    model = model_of_run(run, source, transform, inputs.output)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"The weights in {location} do not match the source and the record of the run.") from error
    chosen = choose_device(device)
    dtype = torch.float64 if record["recipe"]["precision"] == "float64" else torch.float32
    size = int(record["recipe"]["stage2"]["batch_size"])
    limit = BatchLimit(batch_size) if batch_size else evaluation_limit(size, chosen, transform)
    autocast = torch.bfloat16 if record["recipe"]["precision"] == "bfloat16" else None
    network = Network(model.to(device=chosen, dtype=dtype).eval(), transform, chosen, dtype, limit, autocast)
    return TrainedModel(run, network, inputs, limit.size)


def _check_settings(run: Run) -> None:
    """Raise if the record of a run has a setting of another type or range, on which its model depends."""
    recipe = run.record["recipe"]
    stage = recipe.get("stage2")
    numbers = {
        "input_size": run.record["input_size"],
        "recipe.target_sequence_length": recipe.get("target_sequence_length"),
        "recipe.stage2.batch_size": stage.get("batch_size") if isinstance(stage, dict) else None,
    }
    for name, value in numbers.items():
        is_missing = value is None and name != "recipe.stage2.batch_size"
        if not is_missing and not (type(value) is int and 1 <= value <= LARGEST_SETTING):
            raise changed_record(
                f"The record of the run in {run.folder} has {name} {value!r}, and a whole number from 1 on is expected"
            )
    if recipe.get("precision") not in PRECISIONS:
        raise changed_record(
            f"The record of the run in {run.folder} has recipe.precision {recipe.get('precision')!r}. Expected "
            f"{', '.join(PRECISIONS)}"
        )


def _weights_file(run: Run, epoch: int | None) -> Path:
    """Return the file of the chosen weights, or of those of an epoch, or raise if there is none."""
    if epoch is None:
        if not run.has_chosen_weights:
            raise InputError(
                f"The run in {run.folder} has no chosen weights, because it was not finished. Repeat its command with "
                "`resume=True` first."
            )
        return run.checked(run.weights)
    path = epoch_file(run.folder, epoch)
    if not path.exists():
        saved = ", ".join(map(str, run.saved_epochs)) or "none"
        raise InputError(f"There are no weights at {path}, because the run kept these epochs: {saved}.")
    return run.checked(path)


def run_transform(run: Run, inputs: InputTransform, source: Source) -> InputTransform:
    """Return the transform of samples to pieces that the model of a run takes.

    Args:
        run: The run.
        inputs: The transform without what belongs to the source.
        source: The source.

    Raises:
        InputError: When the record of the run was changed.
    """
    with reading_record(f"The record of the run in {run.folder} does not describe its samples"):
        return restore_transform(inputs, run.record["inputs"], source)


def model_of_run(run: Run, source: Source, transform: InputTransform, output: Output) -> TargetModel:
    """Return the model of a run without its weights.

    Args:
        run: The run.
        source: The source.
        transform: Transform of samples, which `run_transform` returns.
        output: Output of the model for a sample.
    """
    if isinstance(transform, NativeTransform):
        return native_model(source, transform.example(), output)
    # Only sources of text have a largest number of tokens.
    length = run.record["recipe"]["target_sequence_length"] if source.input.kind == "text" else None
    length = None if length is None else min(length, getattr(source.input, "max_tokens", length))
    sample, start = np.zeros(transform.shape, np.float32), get_method(run.record["method"]).embedder_start
    return target_model(source, sample, output, length=length, embedder_start=start)


# The model as one file


def write_model_file(run: Run, state: Mapping[str, Tensor], inputs: TrainedInputs, path: Path) -> None:
    """Write a model and everything that predicting needs, except the architecture of the source.

    Args:
        run: The run that trained the model.
        state: State of the model, by name.
        inputs: Preparation of its samples.
        path: File to write.

    Raises:
        InputError: When it cannot be written.
    """
    tensors = {f"{MODEL}.{name}": value for name, value in state.items()}
    tensors |= {f"{INPUTS}.{name}": torch.from_numpy(array) for name, array in arrays_of(inputs).items()}
    tensors = cpu_copies(tensors)
    record = format_json(plain_values(dict(run.record)))
    try:
        save_file(tensors, path, {RECORD_KEY: record, DIGEST_KEY: _digest(record, tensors)})
    except SafetensorError as error:
        raise InputError(f"Cannot write {path}: {first_line(error)}.") from error


def read_model_file(path: Path) -> tuple[Run, dict[str, Tensor], dict[str, Tensor]]:
    """Read such a file.

    Returns:
        The run without a folder of its own, the state of the model, and the arrays of the preparation, by name.

    Raises:
        InputError: When the file is missing, damaged, or was not written by `modgap export`.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (SafetensorError, *DAMAGED_FILE_ERRORS) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}.") from error
    if RECORD_KEY not in metadata:
        raise InputError(f"{path} has no record of a run. Expected a file that modgap export wrote.")
    try:
        record = parse_json(metadata[RECORD_KEY])
    except ValueError as error:
        raise InputError(f"The record of the run in {path} is damaged: {first_line(error)}.") from error
    digest = metadata.get(DIGEST_KEY)
    # A damaged name of the checksum must not make the file one of a version without checksums.
    if digest not in (None, _digest(metadata[RECORD_KEY], tensors)) or set(metadata) - {RECORD_KEY, DIGEST_KEY}:
        raise InputError(
            f"{path} does not fit its checksum, so it was damaged or changed after modgap export wrote it. Restore it, "
            "or export the run again."
        )
    run = Run(path, check_record(record, path, has_digest=digest is not None))
    return run, part_of(tensors, MODEL), part_of(tensors, INPUTS)


def _digest(record: str, tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
