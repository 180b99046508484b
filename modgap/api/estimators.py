"""`TransferClassifier` and `TransferRegressor`: `modgap.transfer` with scikit-learn's interface."""

import dataclasses
import os
import shutil
import tempfile
import unicodedata
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from modgap.api.transfer import transfer
from modgap.errors import InputError, UsageError, format_bytes
from modgap.race.result import TransferResult
from modgap.storage.json_records import format_json, plain_values
from modgap.targets.manifest import Splits
from modgap.targets.splits import splits_of_few, stratification_labels
from modgap.targets.stored_arrays import store_arrays
from modgap.training.trained_model import load_trained_model, write_model_file

RandomState = int | np.integer | np.random.RandomState | None
"""A seed, or what draws one."""
FEWEST_SAMPLES = 3
"""Smallest number of samples: one to fit, one to choose a model by, and one to test."""
FEW = 50
"""Number of samples, or of groups if there are any, below which a split that is drawn at random could be empty."""
KIND_OF_AXES = {2: "table", 4: "image"}
"""Kind of the samples by the number of axes of their array. Three axes can be series or images."""
LARGEST_MODEL = 1 << 34
"""Largest size of a model that is restored, in bytes."""
MODEL, FOLDER = "_model_file", "_folder"
"""Names of two private attributes. A pickled estimator has the bytes of its model file in the first. A fitted one has
the function that removes its temporary folder in the second."""


class _TransferEstimator(BaseEstimator):  # type: ignore[misc]
    """Estimator whose fit is a call of `modgap.transfer`. A pickled one has its model as one safetensors file."""

    def __init__(
        self,
        *,
        minutes: float = 2.0,
        sources: Sequence[str] = (),
        steps: str | Path | Sequence[object] | None = None,
        kind: str | None = None,
        folder: str | Path | None = None,
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: RandomState = 0,
    ) -> None:
        """Store the parameters, which `fit` checks."""
        self.minutes = minutes
        self.sources = sources
        self.steps = steps
        self.kind = kind
        self.folder = folder
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    @property
    def result_(self) -> TransferResult:
        """The result of the transfer, with its test error and everything that was tried."""
        if not hasattr(self, "_result"):
            name = type(self).__name__
            raise AttributeError(
                f"This {name} has no result_, which only its fit makes. Copies and pickles of a fitted one have its "
                "model alone, with the record of its run: run_.run.record."
            )
        return self._result

    def __sklearn_tags__(self) -> Tags:
        """Return the tags of scikit-learn: samples of several axes, and a choice by time."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.non_deterministic = self.steps is None and self.minutes != 0
        return tags

    def _fit(self, samples: np.ndarray, y: np.ndarray, groups: ArrayLike | None, task: str) -> Self:
        """Write the samples to a file, transfer to them, and load the chosen model.

        Args:
            samples: Samples, as `fit` takes them.
            y: Class names or numbers (n,), 0/1 labels (n, K), or values.
            groups: Group of each sample, (n,); None if samples are independent.
            task: `classification`, `multi-label` or `regression`.
        """
        workers = effective_n_jobs(self.n_jobs) if self.minutes else 1
        kind = self.kind or KIND_OF_AXES.get(samples.ndim)
        if kind is None and samples.ndim == 3:
            raise UsageError(
                f"X of shape {samples.shape} can be series (n, channels, length) or images (n, height, width). "
                'Pass kind="series" or kind="image".'
            )
        custom_data = {"task": task} | ({} if kind is None else {"kind": kind})
        if groups is not None:
            check_consistent_length(samples, groups)
        out = self._output_folder()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
            # A run in the user's folder refers to the file of its data, so this file goes to the cache and stays.
            array_folder = out.parent if self.folder is None else None
            path = store_arrays(samples, y, groups, array_folder, _splits(y, groups, task))
            steps = self.steps
            if steps is not None and not isinstance(steps, str | os.PathLike):
                records = [dataclasses.asdict(one) if dataclasses.is_dataclass(one) else one for one in steps]  # type: ignore[arg-type]
                steps = Path(temporary) / "steps.json"
                steps.write_text(format_json(plain_values(records)), encoding="utf-8")
            result = transfer(
                path,
                out,
                minutes=self.minutes,
                sources=self.sources,
                steps=None if steps is None else Path(steps),
                device=self.device,
                seed=_seed(self.random_state),
                jobs=workers,
                custom_data=custom_data,
            )
        self._result = result.of_removed_folder() if self.folder is None else result
        self.run_ = load_trained_model(out, device=self.device)
        return self

    def _output_folder(self) -> Path:
        """Return the folder of the run: the user's, or a new temporary one that is removed with the estimator.

        Raises:
            UsageError: If the user's folder is not empty.
        """
        # The temporary folder of an earlier fit is removed.
        if FOLDER in self.__dict__:
            self.__dict__.pop(FOLDER)()
        if self.folder is None:
            root = tempfile.mkdtemp(prefix="modgap-")
            self.__dict__[FOLDER] = weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
            return Path(root) / "best"
        folder = Path(self.folder)
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} is not empty, and each fit needs a folder of its own. Pass another folder, or None for a "
                "temporary one, as cross-validation needs it."
            )
        return folder

    def _checked(self, X: ArrayLike) -> np.ndarray:
        """Return samples to predict, or raise if there is no model, or they are not like those of the training."""
        check_is_fitted(self, "run_")
        return np.asarray(validate_data(self, X, reset=False, allow_nd=True))

    # Copies and pickles

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters and, of a fitted estimator, what it learned and the bytes of its model file."""
        state = {name: value for name, value in super().__getstate__().items() if name not in (FOLDER, "_result")}
        if "run_" in state:
            model = state.pop("run_")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.safetensors"
                write_model_file(model.run, model.state(), model.inputs, path)
                state[MODEL] = path.read_bytes()
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restore the parameters and the model, after checks of everything that the model consists of.

        Raises:
            InputError: If the stored bytes are not a model file, were changed, or are not a model of this estimator.
        """
        super().__setstate__({name: value for name, value in state.items() if name != MODEL})
        if MODEL in state:
            content = state[MODEL]
            if not isinstance(content, bytes):
                kind = type(content).__name__
                raise InputError(f"The model of a stored estimator is of type {kind}. Expected bytes.")
            if len(content) > LARGEST_MODEL:
                raise InputError(
                    f"The model of a stored estimator has {format_bytes(len(content))}, and at most "
                    f"{format_bytes(LARGEST_MODEL)} are restored."
                )
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                path = Path(folder) / "model.safetensors"
                path.write_bytes(content)
                self.run_ = load_trained_model(path, device=self.device)
            shape = self.__dict__.get("_output_shape")
            classes = self.__dict__.get("classes_")
            n_values = int(np.prod(self.run_.inputs.output.shape))
            if isinstance(self, TransferRegressor):
                fits = self.run_.task == "regression" and shape in ((), (n_values,)) and (shape != () or n_values == 1)
            else:
                is_classifier = self.run_.task != "regression"
                fits = is_classifier and isinstance(classes, np.ndarray) and classes.shape == (len(self.run_.classes),)
            if not fits:
                raise InputError(
                    f"The model of the stored {type(self).__name__} has another task or other classes, so it was "
                    "changed. Fit the estimator again."
                )


class TransferClassifier(ClassifierMixin, _TransferEstimator):  # type: ignore[misc]
    """Classifier that finds the best model within some minutes, with scikit-learn's interface.

    `fit` calls `modgap.transfer`: a fifth of the samples is put aside as a test split, and baselines, linear probes of
    pretrained sources, and trainings of the best sources are compared on folds of the others. The chosen model is
    tested once; `result_` has its test error and everything that was tried. With `minutes=0` only the quick baselines
    take part.

    Args:
        minutes: Minutes of the comparison. The final fits come after it.
        sources: Names of the sources; none for those on this machine with an open license and without near copies.
        steps: Steps that are repeated exactly: file transfer.json of an earlier transfer, or its list of steps,
            `result_.to_dict()["steps"]`. None to choose the steps by the time that is left.
        kind: Kind of the samples: `table` for unordered features, `series` or `image`. None takes arrays (n, d) as a
            table and (n, channels, height, width) as images; other shapes need it.
        folder: New or empty folder of the model, for `modgap predict`, `report` and `compare`. None for a temporary
            one, which is removed with the estimator. Several fits, as in a cross-validation, need None.
        device: `auto`, `cpu`, `cuda` or `mps`.
        n_jobs: Number of processes; None for one, and -1 for one for each core. `minutes=0` uses one.
        random_state: Seed of every random draw; None or a generator to draw one.

    Attributes:
        classes_: The classes, sorted; for multi-label data the numbers of the labels.
        result_: Result of the transfer, which pickles and copies do not have.
        run_: The model, as `modgap.load_run` returns it.
        n_features_in_: Number of features or channels; for images without channels their height.
        feature_names_in_: Names of the columns of a data frame.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from modgap import TransferClassifier
        >>> X, y = load_wine(return_X_y=True)
        >>> model = TransferClassifier(minutes=0).fit(X, y)
        >>> model.run_.run.record["method"], model.predict_proba(X).shape
        ('baseline:extra-trees', (178, 3))
    """

    def __sklearn_tags__(self) -> Tags:
        """Return the tags of scikit-learn: samples may have several labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Find and fit a model.

        Args:
            X: Samples: a data frame or an array (n, d), series (n, channels, length), or images (n, height, width) or
                (n, channels, height, width).
            y: Classes (n,), or 0/1 labels (n, K).
            groups: Group of each sample, (n,), such as a patient. A group is never divided between samples that are
                fitted and samples that judge. None if samples are independent.

        Raises:
            InputError: If the samples are too few, or no model could be fitted.
            UsageError: If a parameter is not possible.
            ValueError: If y has several columns of classes, or one class.
        """
        samples, labels = validate_data(self, X, y, allow_nd=True, multi_output=True, ensure_min_samples=FEWEST_SAMPLES)
        labels = labels.toarray() if hasattr(labels, "toarray") else labels
        labels = column_or_1d(labels, warn=True) if labels.ndim == 1 or labels.shape[1] == 1 else labels
        check_classification_targets(labels)
        if type_of_target(labels) == "multilabel-indicator":
            self.classes_ = np.arange(labels.shape[1])
            return self._fit(samples, labels.astype(np.int64), groups, "multi-label")
        if labels.ndim > 1:
            raise ValueError("y has several columns of classes. Expected classes (n,), or labels 0 and 1 (n, K).")
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has 1 class, {self.classes_[0]!r}. At least 2 classes are needed.")
        return self._fit(samples, _named_classes(self.classes_, numbers), groups, "classification")

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the class of each sample, (n,), or its labels, 0 or 1, (n, K)."""
        probabilities = self.predict_proba(X)
        if self.run_.task == "multi-label":
            return (probabilities > 0.5).astype(np.int64)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class or label, (n, K), in the order of `classes_`; they are not calibrated.

        Those of classes sum to 1; those of several labels do not.
        """
        samples = self._checked(X)
        probabilities: np.ndarray = self.run_.predict_proba(samples)
        names, columns = [str(one) for one in self.classes_.tolist()], self.run_.classes
        if set(names) == set(columns):
            probabilities = probabilities[:, [columns.index(name) for name in names]]
        return probabilities


class TransferRegressor(MultiOutputMixin, RegressorMixin, _TransferEstimator):  # type: ignore[misc]
    """Regressor that finds the best model within some minutes, with scikit-learn's interface.

    It takes one or several real values a sample. Everything else is as in `TransferClassifier`.

    Args:
        minutes: Minutes of the comparison. The final fits come after it.
        sources: Names of the sources; none for those on this machine with an open license and without near copies.
        steps: Steps that are repeated exactly: file transfer.json of an earlier transfer, or its list of steps.
        kind: Kind of the samples: `table`, `series` or `image`; None if their shape tells it.
        folder: New or empty folder of the model; None for a temporary one.
        device: `auto`, `cpu`, `cuda` or `mps`.
        n_jobs: Number of processes; None for one, and -1 for one for each core.
        random_state: Seed of every random draw; None or a generator to draw one.

    Attributes:
        result_: Result of the transfer, which pickles and copies do not have.
        run_: The model, as `modgap.load_run` returns it.
        n_features_in_: Number of features or channels; for images without channels their height.
        feature_names_in_: Names of the columns of a data frame.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> from modgap import TransferRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = TransferRegressor(minutes=0).fit(X, y)
        >>> model.run_.run.record["method"], model.predict(X).shape
        ('baseline:linear', (442,))
    """

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Find and fit a model.

        Args:
            X: Samples, as for `TransferClassifier`.
            y: Values (n,) or (n, outputs).
            groups: Group of each sample, (n,); None if samples are independent.

        Raises:
            InputError: If the samples are too few, or no model could be fitted.
            UsageError: If a parameter is not possible.
        """
        samples, targets = validate_data(
            self, X, y, allow_nd=True, multi_output=True, y_numeric=True, ensure_min_samples=FEWEST_SAMPLES
        )
        values = targets.astype(np.float64)
        self._output_shape = values.shape[1:]
        if values.shape[1:] == samples.shape[-1:]:
            # If samples have as many values as points, the values would be read as a field: one value for each point.
            values = values[:, :, None]
        return self._fit(samples, values, groups, "regression")

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the values of each sample, (n,) or (n, outputs), as the values of the training."""
        samples = self._checked(X)
        return np.asarray(self.run_.predict(samples).reshape(len(samples), *self._output_shape))


def _seed(random_state: RandomState) -> int:
    """Return a seed: the number itself, or one that a generator of scikit-learn's convention draws."""
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _splits(y: np.ndarray, groups: ArrayLike | None, task: str) -> np.ndarray | None:
    """Return the split of each of few samples, (n,), with none empty if possible; None if there are enough to draw it.

    Args:
        y: Classes (n,), 0/1 labels (n, K), or values.
        groups: Group of each sample, (n,); None if samples are independent.
        task: `classification`, `multi-label` or `regression`.
    """
    numbers = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if len(np.unique(numbers)) >= FEW:
        return None
    strata = np.zeros(len(y), np.int64)
    if task != "regression":
        strata = np.unique(y, return_inverse=True)[1].ravel() if y.ndim == 1 else stratification_labels(y)
    defaults = Splits()
    return splits_of_few(strata, None if groups is None else numbers, defaults.validation, defaults.test, defaults.seed)


def _named_classes(classes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the name of the class of each sample, (n,), so that the run knows the names; else the number of its class.

    Numbers are returned if the names are just these numbers, if two classes have the same name, and if modgap would
    change a name, such as one that ends with a space.

    Args:
        classes: The classes, sorted, (K,).
        numbers: Number of the class of each sample, 0..K-1, (n,).
    """
    names = [str(one) for one in classes.tolist()]
    is_plain = all(name and name.isprintable() and name == name.strip() for name in names)
    is_composed = all(name == unicodedata.normalize("NFC", name) for name in names)
    is_numbered = names == [str(number) for number in range(len(names))]
    if is_numbered or not is_plain or not is_composed or len(set(names)) < len(names):
        return numbers
    return np.asarray(np.array(names)[numbers])
