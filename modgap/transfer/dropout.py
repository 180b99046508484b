"""Dropout of a model, whatever library its layers come from."""

from torch import nn

__all__ = ["set_dropout"]

ATTRIBUTES = ("dropout", "dropout_p", "attention_dropout", "activation_dropout", "hidden_dropout")
"""Attributes of layers that are probabilities of dropout, besides those of torch's own dropout layers."""


def set_dropout(model: nn.Module, probability: float) -> int:
    """Set the probability of every dropout in a model, and return the number of those that changed.

    Stochastic depth, which drops whole layers, stays as it is.

    Args:
        model: The model.
        probability: Probability with which a value is dropped, in [0, 1).
    """
    n_changed = 0
    for module in model.modules():
        names = ("p",) if isinstance(module, nn.modules.dropout._DropoutNd) else ATTRIBUTES
        for name in names:
            value = getattr(module, name, None)
            if isinstance(value, float) and value != probability:
                setattr(module, name, probability)
                n_changed += 1
    return n_changed
