"""Lay models down as the hub's client keeps them, so that sources are found without the hub."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file


def in_hub(cache: Path, name: str, files: Mapping[str, bytes | Path], revision: str | None = None) -> Path:
    """Put files into the hub's cache folder as a repository's snapshot; returns the snapshot's folder.

    Args:
        cache: The hub's cache, `HF_HUB_CACHE`, or `hub` under `HF_HOME`.
        name: ORGANizATION/NAME.
        files: Contents by file name, or a file that is moved there.
        revision: The commit; one made of the name if None. The branch `main` points to it.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    revision = revision or hashlib.sha1(name.encode()).hexdigest()
    snapshot, blobs = repository / "snapshots" / revision, repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    for file, content in files.items():
        blob = blobs / hashlib.sha1(f"{name}/{revision}/{file}".encode()).hexdigest()
        if isinstance(content, Path):
            os.replace(content, blob)
        else:
            blob.write_bytes(content)
        (snapshot / file).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def timm_in_hub(cache: Path, model, name: str | None = None) -> Path:
    """A timm model's weights as safetensors, with config.json, where `timm:` and its aliases look for them.

    Args:
        cache: The hub's cache folder.
        model: A timm model; give `timm.create_model` the tag of the weights that it stands in for, as in
            `swin_base_patch4_window7_224.ms_in22k`.
        name: ORGANizATION/NAME; timm's own for that tag if None.
    """
    own = model.pretrained_cfg
    keys = ("tag", "input_size", "interpolation", "mean", "std", "crop_pct", "first_conv", "classifier", "num_classes")
    configuration = {
        "architecture": own["architecture"],
        "num_classes": model.num_classes,
        "pretrained_cfg": {key: own[key] for key in keys if key in own},
    }
    with tempfile.TemporaryDirectory(dir=_made(cache)) as scratch:
        weights = Path(scratch, "model.safetensors")
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, weights)
        files = {"config.json": json.dumps(configuration).encode(), "model.safetensors": weights}
        return in_hub(cache, name or own["hf_hub_id"], files)


def saved_in_hub(cache: Path, name: str, *parts) -> Path:
    """What `save_pretrained` writes of models, tokenizers and preprocessing, as a repository's snapshot."""
    with tempfile.TemporaryDirectory(dir=_made(cache)) as scratch:
        for part in parts:
            part.save_pretrained(scratch)
        return in_hub(cache, name, {path.name: path for path in sorted(Path(scratch).iterdir())})


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
