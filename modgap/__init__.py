"""Measure how far a pretrained model's knowledge is from a new kind of data, and close the gap.

The functions and classes of this module are the public API. They are imported when they are first used, so that
`import modgap` is fast.
"""

import importlib
import os

# Not imported from typing, so that the command handles signals a moment after its start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from modgap.api.comparison import compare
    from modgap.api.discrepancy import estimate, measure
    from modgap.api.distortion import measure_distortion
    from modgap.api.estimators import TransferClassifier, TransferRegressor
    from modgap.api.features import features
    from modgap.api.figures import plot_discrepancies
    from modgap.api.opening import list_sources, list_targets, open_source, open_target
    from modgap.api.prediction import load_run
    from modgap.api.ranking import rank
    from modgap.api.training import train
    from modgap.api.transfer import transfer

    __version__: str

__all__ = [
    "TransferClassifier",
    "TransferRegressor",
    "__version__",
    "compare",
    "estimate",
    "features",
    "list_sources",
    "list_targets",
    "load_run",
    "measure",
    "measure_distortion",
    "open_source",
    "open_target",
    "plot_discrepancies",
    "rank",
    "train",
    "transfer",
]

_MODULES = {
    "TransferClassifier": "modgap.api.estimators",
    "TransferRegressor": "modgap.api.estimators",
    "compare": "modgap.api.comparison",
    "estimate": "modgap.api.discrepancy",
    "features": "modgap.api.features",
    "list_sources": "modgap.api.opening",
    "list_targets": "modgap.api.opening",
    "load_run": "modgap.api.prediction",
    "measure": "modgap.api.discrepancy",
    "measure_distortion": "modgap.api.distortion",
    "open_source": "modgap.api.opening",
    "open_target": "modgap.api.opening",
    "plot_discrepancies": "modgap.api.figures",
    "rank": "modgap.api.ranking",
    "train": "modgap.api.training",
    "transfer": "modgap.api.transfer",
}
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if all(os.path.exists(os.path.join(_CHECKOUT, name)) for name in ("pyproject.toml", "data_manifests")):
    # In a checkout the packages modgap.cli and modgap.data_manifests lie beside this one; a wheel has them inside.
    __path__.append(_CHECKOUT)


def __getattr__(name: str) -> object:
    """Import a public function or class when it is first used, and read the version when it is asked for."""
    if name == "__version__":
        from modgap.storage.algorithms import installed_version

        return installed_version()
    if name not in _MODULES:
        raise AttributeError(f"module 'modgap' has no attribute {name!r}. It offers: {', '.join(_MODULES)}.")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public functions and classes."""
    return sorted(__all__)
