"""Check that embedder, encoder and head, run one after the other, give the outputs of the source model.

    python -m benchmarks.composition [--size full]    run it in the repository's root; a minute on two cores

Small random models of each family are saved in the layout of the Hugging Face cache and are opened by name, offline.
The models that packages contain are the real ones. `--size full` adds Swin-B and ViT-B at their published size, with
random weights. The table has the largest difference of the outputs for each model; 0 means that they are equal bit for
bit. The last column has the largest change of the outputs after noise is added to the tokens. It shows that the tokens
do pass through the encoder.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

TIMM = (
    "swin_tiny_patch4_window7_224.ms_in1k",
    "vit_tiny_patch16_224.augreg_in21k",
    "tf_efficientnet_lite0.in1k",
    "convnext_atto.d2_in1k",
    "resnet18.a1_in1k",
    "deit_tiny_distilled_patch16_224.fb_in1k",
)
FULL = ("swin-b", "vit-b")
PACKAGED = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "rxnfp", "minilm")
TEXTS = {
    "rxnfp": ("CC(=O)O.OCC>>CC(=O)OCC.O", "BrCc1ccccc1.OCC1CC1>>c1ccc(COCC2CC2)cc1"),
    "other": ("the cat sat", "a much longer text so that the first one is padded", "dog"),
}
ROW_FORMAT = "{:44} {:>10} {:>16} {:>16} {:>12} {:>18}"


def prepare_sources(cache: Path, full: bool) -> list[str]:
    """Save the random models in the hub's cache, and return the names of all sources."""
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
    installed = {info.name for info in source_infos() if info.is_installed}
    return [*names, *(f"hf:small/{name}" for name in MODELS), *(name for name in PACKAGED if name in installed)]


def table_row(name: str) -> tuple[str, ...]:
    """Return the row of one source."""
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
    samples = {
        "image": [rng.random((3, 60, 50), dtype=np.float32) for _ in range(3)],
        "text": TEXTS.get(name, TEXTS["other"]),
        "audio": [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (16000, 9000)],
    }[source.input.kind]
    batch = source.input.batch(samples, torch.device("cpu"))
    parts = source.split()
    with torch.inference_mode():
        outputs = source.model(batch)
        embedded = parts.embedder(batch)
        features = parts.encoder(embedded)
        difference = (parts.head(features) - outputs).abs().max().item()
        is_mapping = not isinstance(embedded, torch.Tensor)
        tokens = embedded["inputs_embeds"] if is_mapping else embedded
        noisy = tokens + torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))
        noisy_outputs = parts.head(parts.encoder({**embedded, "inputs_embeds": noisy} if is_mapping else noisy))
    shapes = [" x ".join(map(str, tensor.shape[1:])) for tensor in (tokens, parts.tokens(features))]
    change = (noisy_outputs - outputs).abs().max().item()
    return name, f"{outputs.shape[1]:,}", *shapes, f"{difference:g}", f"{change:.3g}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HF_HOME": home, "HF_HUB_CACHE": f"{home}/hub", "MODGAP_CACHE": f"{home}/modgap"}
        import transformers

        transformers.utils.logging.disable_progress_bar()
        names = prepare_sources(Path(home, "hub"), options.size == "full")
        print(ROW_FORMAT.format("source", "outputs", "tokens in", "tokens out", "difference", "change with noise"))
        for name in names:
            print(ROW_FORMAT.format(*table_row(name)))


if __name__ == "__main__":
    main()
