"""The command `modgap env`."""

import cloup

from modgap.cli.groups import example
from modgap.cli.output import print_line

PACKAGES = (
    "torch",
    "timm",
    "transformers",
    "tokenizers",
    "numba",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
    "pydantic",
    "matplotlib",
    "seaborn",
)
VARIABLES = ("MODGAP_CACHE", "HF_HUB_OFFLINE", "NO_COLOR", "OMP_NUM_THREADS", "NUMBA_CACHE_DIR")


@cloup.command(epilog=example("modgap env"))
def env() -> None:
    """Show versions and the machine, to paste into a bug report."""
    import os
    import platform
    from importlib import metadata

    from modgap.storage.algorithms import installed_version
    from modgap.storage.paths import cache_folder

    print_line(f"modgap {installed_version()}")
    print_line(f"python {platform.python_version()} on {platform.platform()}")
    print_line(f"cores {os.cpu_count()}, {platform.machine()}")
    for name in PACKAGES:
        try:
            print_line(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print_line(f"{name} not installed")
    print_line(f"cache {cache_folder()}")
    for name in VARIABLES:
        print_line(f"{name} {os.environ.get(name, 'not set')}")
