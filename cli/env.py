"""`modgap env`."""

import click

__all__ = ["env"]

PACKAGES = (
    "torch", "timm", "transformers", "tokenizers", "numba", "numpy", "scipy", "scikit-learn", "safetensors", "pydantic",
    "matplotlib",
)  # fmt: skip


@click.command()
def env() -> None:
    """Versions and machine, to paste into a bug report. Imports none of the libraries it names."""
    import os
    import platform
    from importlib import metadata

    from modgap import __version__
    from modgap.storage.paths import cache_folder

    click.echo(f"modgap {__version__}")
    click.echo(f"python {platform.python_version()} on {platform.platform()}")
    click.echo(f"cores {os.cpu_count()}, {platform.machine()}")
    for name in PACKAGES:
        try:
            click.echo(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            click.echo(f"{name} missing")
    click.echo(f"cache {cache_folder()}")
    for name in ("MODGAP_CACHE", "HF_HUB_OFFLINE", "NO_COLOR", "OMP_NUM_THREADS", "NUMBA_CACHE_DIR"):
        click.echo(f"{name} {os.environ.get(name, 'not set')}")
