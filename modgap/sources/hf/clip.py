"""CLIP as a source: its text tower makes the head, one prompt for each of ImageNet's thousand classes."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modgap.errors import InputError
from modgap.sources.hf.image_audio import WHOLE_IMAGE, find_size_options
from modgap.sources.hf.parts import Encoded, encoded_tokens, move_batch
from modgap.sources.hf.preprocessing import image_input, noise_batch
from modgap.sources.hf.spec import PROMPT, HfSpec
from modgap.sources.hf.stem_split import split_stem
from modgap.sources.hf.text import tokenizer_of
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import verify_parts
from modgap.sources.timm.imagenet import imagenet_class_names, short_class_names

__all__ = ["contrastive_source"]

PROMPTS_AT_A_TIME = 100


def contrastive_source(spec: HfSpec, model: Any, input_size: int | None) -> Source:
    """A zero-shot classifier of images over ImageNet's thousand classes.

    Raises:
        InputError: When tokenizer or preprocessing are missing.
        UsageError: When the model takes no images of this size.
    """
    own = image_input(spec, model.config.vision_config, input_size)
    sample = noise_batch(own)
    vision = model.vision_model
    extra = find_size_options(vision, "pixel_values", sample, input_size)
    prompts = [PROMPT.format(name) for name in short_class_names()]
    texts = _text_vectors(model, tokenizer_of(spec), prompts)
    project = _Projection(model.visual_projection)
    whole = _ZeroShot(vision, project, texts, model.logit_scale, extra)

    def split() -> Parts:
        def make() -> Parts:
            embedder, encoder = split_stem(vision, "pixel_values", sample, extra)
            head = nn.Sequential(project, whole.similarity).eval()
            return Parts(embedder, encoder, head, encoded_tokens)

        return verify_parts(make, whole, move_batch(sample, model.device), spec.name)

    listed = hashlib.sha256("\n".join(prompts).encode()).hexdigest()
    notes = (("prompt", PROMPT), ("prompts", f"{len(prompts)}, SHA-256 of all {listed}"), WHOLE_IMAGE)
    return Source(whole, own, imagenet_class_names(), False, split, whole.features, notes)


def _text_vectors(model: Any, tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Normalized vectors (classes, D) of the prompts."""
    places = model.config.text_config.max_position_embeddings
    if len(tokenizer) > model.config.text_config.vocab_size:
        raise InputError(f"the tokenizer has {len(tokenizer)} tokens, more than CLIP's text tower")
    vectors = []
    with torch.no_grad():
        for start in range(0, len(prompts), PROMPTS_AT_A_TIME):
            batch = tokenizer(
                list(prompts[start : start + PROMPTS_AT_A_TIME]),
                padding=True, truncation=True, max_length=places, return_tensors="pt",
            )  # fmt: skip
            pooled = model.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            vectors.append(model.text_projection(pooled.pooler_output))
    return _normalized(torch.cat(vectors))


def _normalized(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


class _Projection(nn.Module):
    """What the vision tower gives, in the space of the texts: normalized vectors (B, D)."""

    def __init__(self, projection: nn.Module):
        super().__init__()
        self.projection = projection
        self.eval()

    def forward(self, features: Encoded) -> Tensor:
        return _normalized(self.projection(features.output.pooler_output))


class _Similarity(nn.Module):
    """Logits (B, classes): scaled cosine similarity to each class's prompt."""

    def __init__(self, texts: Tensor, scale: nn.Parameter):
        super().__init__()
        self.register_buffer("texts", texts)
        self.scale = scale
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        texts: Any = self.texts
        return images @ texts.T * self.scale.exp()


class _ZeroShot(nn.Module):
    def __init__(self, vision: nn.Module, project: _Projection, texts: Tensor, scale: nn.Parameter, extra: dict):
        super().__init__()
        self.vision, self.project, self.extra = vision, project, extra
        self.similarity = _Similarity(texts, scale)
        self.eval()

    def features(self, images: Tensor) -> Tensor:
        """Normalized vectors (B, D), which the logits are linear in."""
        return self.project(Encoded(self.vision(pixel_values=images, **self.extra)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.similarity(self.features(images))
