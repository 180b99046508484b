"""CLIP as a source, with a zero-shot head: its text tower encodes a prompt for each class of ImageNet-1k."""

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.errors import InputError
from modgap.sources.hf.image_audio import WHOLE_IMAGE, find_size_options, image_input, noise_batch
from modgap.sources.hf.parts import Encoded, encoded_tokens, split_stem
from modgap.sources.hf.spec import PROMPT, HfSpec
from modgap.sources.hf.text import tokenizer_of
from modgap.sources.source import Parts, Source
from modgap.sources.splitting import verify_parts
from modgap.sources.timm.handle import imagenet_class_names, short_class_names

PROMPTS_AT_A_TIME = 100


def contrastive_source(spec: HfSpec, model: Any, input_size: int | None) -> Source:
    """Build a zero-shot classifier of images for the thousand classes of ImageNet-1k.

    Args:
        spec: The model's record.
        model: The loaded model.
        input_size: Height and width of the images in pixels; None for the model's default.

    Raises:
        InputError: When the tokenizer or the preprocessing is missing.
        UsageError: When the model takes no images of this size.
    """
    source_input = image_input(spec, model.config.vision_config, input_size)
    sample = noise_batch(source_input)
    vision = model.vision_model
    extra = find_size_options(vision, "pixel_values", sample, input_size)
    prompts = [PROMPT.format(name) for name in short_class_names()]
    texts = _text_vectors(model, tokenizer_of(spec), prompts)
    project = _Projection(model.visual_projection)
    classifier = _ZeroShot(vision, project, texts, model.logit_scale, extra)

    def split_model() -> Parts:
        embedder, encoder = split_stem(vision, "pixel_values", sample, extra)
        return Parts(embedder, encoder, nn.Sequential(project, classifier.similarity), encoded_tokens)

    split = functools.partial(verify_parts, split_model, classifier, sample, spec.name)
    digest = hashlib.sha256("\n".join(prompts).encode()).hexdigest()
    notes = (("prompt", PROMPT), ("prompts", f"{len(prompts)}, SHA-256 of all {digest}"), WHOLE_IMAGE)
    return Source(classifier, source_input, imagenet_class_names(), False, split, classifier.features, notes)


def _text_vectors(model: Any, tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Return normalized vectors (classes, D) of the prompts."""
    max_length = model.config.text_config.max_position_embeddings
    if len(tokenizer) > model.config.text_config.vocab_size:
        raise InputError(
            f"The tokenizer has {len(tokenizer)} tokens, which is more than the text tower has. "
            "They do not belong together."
        )
    vectors = []
    with torch.no_grad():
        for start in range(0, len(prompts), PROMPTS_AT_A_TIME):
            batch = tokenizer(
                list(prompts[start : start + PROMPTS_AT_A_TIME]),
                padding=True, truncation=True, max_length=max_length, return_tensors="pt",
            )  # fmt: skip
            pooled = model.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            vectors.append(model.text_projection(pooled.pooler_output))
    return functional.normalize(torch.cat(vectors), dim=-1)


class _Projection(nn.Module):
    """A module from the vision tower's output to normalized vectors (B, D) in the space of the texts."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, features: Encoded) -> Tensor:
        return functional.normalize(self.projection(features.output.pooler_output), dim=-1)


class _Similarity(nn.Module):
    """A module from normalized vectors to logits (B, classes): scaled cosine similarities to the classes' prompts."""

    texts: Tensor

    def __init__(self, texts: Tensor, scale: nn.Parameter) -> None:
        super().__init__()
        self.register_buffer("texts", texts)
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = images @ self.texts.T * self.scale.exp()
        return logits


class _ZeroShot(nn.Module):
    def __init__(
        self, vision: nn.Module, project: _Projection, texts: Tensor, scale: nn.Parameter, extra: dict[str, bool]
    ) -> None:
        super().__init__()
        self.vision = vision
        self.project = project
        self.extra = extra
        self.similarity = _Similarity(texts, scale)
        self.eval()

    def features(self, images: Tensor) -> Tensor:
        """Return normalized vectors (B, D), on which the logits are linear."""
        vectors: Tensor = self.project(Encoded(self.vision(pixel_values=images, **self.extra)))
        return vectors

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        logits: Tensor = self.similarity(self.features(images))
        return logits
