"""The recipe of a benchmark, whose gradients are sums over accumulated batches, in terms of their mean.

The recipes in the manifests are those of ORCA (Shen et al., ICML 2023), whose code adds the gradients of A batches
before an update. modgap averages them, so that a rate means the same for every A. The two rules make equal updates if

- `sgd` has A times the rate and 1/A of the decay: rate (sum + decay w) = A rate (mean + decay w / A);
- `adam`, whose decay is part of the gradient and whose steps do not depend on the gradient's scale, has 1/A of the
  decay;
- `adamw`, whose decay is apart from the gradient, is unchanged;
- gradients are clipped at 1/A of the norm.
"""

from typing import Any

from modgap.targets import Manifest

__all__ = ["benchmark_augmentation", "benchmark_settings", "conversion_record"]


def benchmark_settings(manifest: Manifest) -> dict[str, Any]:
    """Return the settings of a manifest's recipe, for updates with the mean gradient; empty if it has none."""
    if manifest.training is None:
        return {}
    settings = manifest.training.model_dump(exclude_none=True)
    n_batches = settings.get("gradient_accumulation", 1)
    optimizer = settings.get("optimizer", "adamw")
    factors = {"gradient_clip": 1 / n_batches}
    if optimizer == "sgd":
        factors["learning_rate"] = n_batches
    if optimizer in ("sgd", "adam"):
        factors["weight_decay"] = 1 / n_batches
    if n_batches == 1:
        return settings
    return settings | {name: settings[name] * factor for name, factor in factors.items() if name in settings}


AUGMENTATIONS = {
    ("crop", "flip"): "crop-flip",
    ("background noise", "SpecAugment"): "noise-spec-augment",
    ("SpecAugment",): "spec-augment",
    ("sky level",): "background-level",
}
"""Settings of stage 2 by words that occur in the description of a recipe's augmentation."""


def benchmark_augmentation(manifest: Manifest) -> tuple[str | None, str]:
    """Return the augmentation of a recipe as a setting of stage 2, and the part of it that modgap does not have.

    Returns:
        The setting, None if there is none; and the description of the missing part, empty if nothing is missing.
    """
    stated = None if manifest.training is None else manifest.training.augmentation
    if stated is None:
        return None, ""
    for words, name in AUGMENTATIONS.items():
        if all(word in stated for word in words):
            parts = [part.strip() for part in stated.split(";")]
            return name, "; ".join(part for part in parts if not any(word in part for word in words))
    return None, stated


def conversion_record(manifest: Manifest) -> dict[str, Any]:
    """Return the settings that the conversion changed, each as in the recipe and as used; empty if there are none."""
    published = {} if manifest.training is None else manifest.training.model_dump(exclude_none=True)
    used = benchmark_settings(manifest)
    return {name: {"recipe": value, "used": used[name]} for name, value in published.items() if used[name] != value}
