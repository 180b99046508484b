"""Measure how far a pretrained model's knowledge is from a new kind of data, and close the gap."""

from pathlib import Path

__version__ = "0.1.0"

_CHECKOUT = Path(__file__).parents[1]
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "data_manifests").is_dir():
    # In a checkout the packages modgap.cli and modgap.data_manifests lie beside this one; a wheel has them inside.
    __path__.append(str(_CHECKOUT))
