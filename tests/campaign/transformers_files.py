"""Models in the layout of transformers, for the campaigns against parsers."""

from collections.abc import Callable
from pathlib import Path


def vision_model(name: str) -> Callable[[Path], Path]:
    """Return a function that writes a small model in the layout of transformers, and returns one of its files."""

    def make(folder: Path) -> Path:
        from tests.small_models import made

        for part in made("vit"):
            part.save_pretrained(folder)
        return folder / name

    return make


def load_folder(path: Path) -> object:
    """Load the source of a folder, or its random-weights control, whose size the weights do not limit."""
    from modgap.sources import open_control, open_source

    is_control = len(path.read_bytes()) % 2
    handle = open_control(str(path.parent)) if is_control else open_source(str(path.parent))
    return handle.load(None).input


PARSED = (
    ("transformers configuration", vision_model("config.json"), load_folder),
    ("transformers preprocessing", vision_model("preprocessor_config.json"), load_folder),
)
"""Name, maker and reader of each file that is changed."""
