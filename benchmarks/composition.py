"""Do embedder, encoder and head together give the source model's own outputs? The largest difference, by family.

    python -m benchmarks.composition [--size full]    from the repository's root; a minute on two cores

Small random models of each family are saved in the hub's layout and opened by name with the hub off; the
models that come inside packages are the real ones. `full` adds Swin-B and ViT-B at their published size,
with random weights. A difference of 0 means bit for bit. `other` is how far the outputs move when noise is
added to the tokens, which shows that they do pass through the encoder.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

TIMM = (
    "swin_tiny_patch4_window7_224.ms_in1k", "vit_tiny_patch16_224.augreg_in21k", "tf_efficientnet_lite0.in1k",
    "convnext_atto.d2_in1k", "resnet18.a1_in1k", "deit_tiny_distilled_patch16_224.fb_in1k",
)  # fmt: skip
FULL = ("swin-b", "vit-b")
PACKAGED = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "rxnfp", "minilm")
TEXTS = {
    "rxnfp": ("CC(=O)O.OCC>>CC(=O)OCC.O", "BrCc1ccccc1.OCC1CC1>>c1ccc(COCC2CC2)cc1"),
    "other": ("the cat sat", "a much longer text so that the first one is padded", "dog"),
}
COLUMNS = "{:44} {:>10} {:>16} {:>16} {:>12} {:>12}"


def laid_down(cache: Path, full: bool) -> list[str]:
    """Names of the sources, the random ones of them put into the hub's cache."""
    import timm
    import torch

    from modgap.sources import open_source, source_infos
    from tests.hub_layout import saved_in_hub, timm_in_hub
    from tests.small_models import MODELS, made

    names = [f"timm:{name}" for name in TIMM]
    for alias in FULL if full else ():
        names.append(alias)
    for name in names:
        torch.manual_seed(0)
        architecture = name.removeprefix("timm:") if ":" in name else open_source(name).architecture
        model = timm.create_model(architecture).eval()
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        timm_in_hub(cache, model)
    for name in MODELS:
        saved_in_hub(cache, f"small/{name}", *made(name))
    here = {info.name for info in source_infos() if info.is_installed}
    return [*names, *(f"hf:small/{name}" for name in MODELS), *(name for name in PACKAGED if name in here)]


def row(name: str) -> tuple[str, ...]:
    """One source's line of the table."""
    import numpy as np
    import torch

    from modgap.errors import UsageError
    from modgap.sources import open_source

    handle = open_source(name)
    try:
        source = handle.load(None)
    except UsageError:
        source = handle.load(None, head=False)
    rng = np.random.default_rng(0)
    pieces = {
        "image": [rng.random((3, 60, 50), dtype=np.float32) for _ in range(3)],
        "text": TEXTS.get(name, TEXTS["other"]),
        "audio": [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (16000, 9000)],
    }[source.input.kind]
    batch = source.input.batch(pieces, torch.device("cpu"))
    parts = source.split()
    with torch.inference_mode():
        entering, whole = parts.embedder(batch), source.model(batch)
        features = parts.encoder(entering)
        difference = (parts.head(features) - whole).abs().max().item()
        mapped = not isinstance(entering, torch.Tensor)
        tokens = entering["inputs_embeds"] if mapped else entering
        noisy = tokens + torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))
        other = parts.head(parts.encoder({**entering, "inputs_embeds": noisy} if mapped else noisy))
    shape, out = (" x ".join(map(str, each.shape[1:])) for each in (tokens, parts.tokens(features)))
    return name, f"{whole.shape[1]:,}", shape, out, f"{difference:g}", f"{(other - whole).abs().max().item():.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HF_HOME": home, "HF_HUB_CACHE": f"{home}/hub", "MODGAP_CACHE": f"{home}/modgap"}
        import transformers

        transformers.utils.logging.disable_progress_bar()
        names = laid_down(Path(home, "hub"), given.size == "full")
        print(COLUMNS.format("source", "outputs", "tokens in", "tokens out", "difference", "other"))
        for name in names:
            print(COLUMNS.format(*row(name)))


if __name__ == "__main__":
    main()
