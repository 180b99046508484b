"""Cross-entropy of multinomial logistic regression and its gradient, on CPUs and on accelerators."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class CrossEntropy:
    """Sum of cross-entropies and its gradient by weights and intercepts together, shape (K, r + 1), in NumPy.

    On CPUs, NumPy's products of a few rows with many were up to four times as fast as PyTorch's.

    Attributes:
        n_classes: Number of classes K.
        width: Number of features r.
        evaluations: Number of calls so far.
        curvatures: Sum of squares of each feature, and of the constant 1 of the intercept, shape (r + 1,).
    """

    def __init__(self, features: Tensor, labels: np.ndarray, n_classes: int) -> None:
        """Prepare the loss of features (n, r) and class numbers 0..K-1, shape (n,)."""
        self.n_classes = n_classes
        self.width = features.shape[1]
        self.evaluations = 0
        self.curvatures = np.append((features**2).sum(0).cpu().numpy(), float(len(features)))
        self._labels = labels
        self._rows = np.arange(len(labels))
        self._prepare(features)

    def _prepare(self, features: Tensor) -> None:
        self._features: Any = features.numpy()

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss in nats and its gradient, shape (K, r + 1), at weights and intercepts of that shape."""
        self.evaluations += 1
        probabilities, loss = self._softmax(theta)
        probabilities[self._labels, self._rows] -= 1
        return loss, np.column_stack([probabilities @ self._features, probabilities.sum(1)])

    def mean_variance(self, theta: np.ndarray) -> float:
        """Return the mean of p (1 - p) over samples and classes: the curvature of the loss for unit-size features."""
        probabilities, _ = self._softmax(theta)
        return float((probabilities * (1 - probabilities)).mean())

    def _softmax(self, theta: np.ndarray) -> tuple[Any, float]:
        """Return P(class), shape (K, n), and the loss; samples are on the second axis, where products are faster."""
        logits = theta[:, :-1] @ self._features.T
        logits += theta[:, -1:]
        logits -= logits.max(0)
        true_logits = logits[self._labels, self._rows].sum()
        np.exp(logits, out=logits)
        totals = logits.sum(0)
        logits /= totals
        return logits, float(np.log(totals).sum() - true_logits)


class CrossEntropyOnDevice(CrossEntropy):
    """The same in PyTorch, for accelerators."""

    def _prepare(self, features: Tensor) -> None:
        self._features = features
        self._index = (
            torch.from_numpy(self._labels).to(features.device),
            torch.from_numpy(self._rows).to(features.device),
        )

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss in nats and its gradient, shape (K, r + 1), at weights and intercepts of that shape."""
        self.evaluations += 1
        probabilities, loss = self._softmax(theta)
        probabilities[self._index] -= 1
        gradient = torch.cat([probabilities @ self._features, probabilities.sum(1, keepdim=True)], 1)
        return loss, gradient.cpu().numpy()

    def _softmax(self, theta: np.ndarray) -> tuple[Any, float]:
        values = torch.from_numpy(theta).to(self._features.device)
        logits = torch.addmm(values[:, -1:], values[:, :-1], self._features.T)
        logits -= logits.amax(0)
        true_logits = logits[self._index].sum()
        exponentials = logits.exp_()
        totals = exponentials.sum(0)
        return exponentials.div_(totals), float(totals.log().sum() - true_logits)
