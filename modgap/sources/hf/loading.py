"""Loading a transformers model: the family of its class, its weights, and the source."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto as auto

from modgap.errors import InputError, UsageError
from modgap.sources.hf.parts import quiet_library
from modgap.sources.hf.spec import CONTRASTIVE, HfSpec
from modgap.sources.model_limits import limited_model
from modgap.sources.source import Source, headless_error
from modgap.sources.timm.handle import read_weights
from modgap.storage.damaged_files import one_line_errors

PRETRAINED_AUDIO = (
    "UniSpeechForPreTraining",
    "UniSpeechSatForPreTraining",
    "Wav2Vec2ConformerForPreTraining",
    "Wav2Vec2ForPreTraining",
)
"""Classes whose head tells true from false frames. Their encoders are bare sources."""
FAMILIES: dict[str, Mapping[str, object]] = {
    "image classification": auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "audio classification": auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
    "speech recognition": auto.MODEL_FOR_CTC_MAPPING_NAMES,
    "pretraining of audio": {name: name for name in PRETRAINED_AUDIO},
    "contrastive": {"clip": CONTRASTIVE},
    "masked language model": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "causal language model": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "sequence classification": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "token classification": auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "encoder": auto.MODEL_MAPPING_NAMES,
    "encoder and decoder": {
        **auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        **auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    },
}
"""Classes of each family, as the library lists them. A class belongs to the first family that contains it."""
INPUTS = {"pixel_values": "image", "input_ids": "text", "input_values": "audio", "input_features": "audio"}
UNUSED = ("pooler.",)
"""Prefixes of tensors that a bare encoder may lack, because untrained ones are not used here."""


def model_family(architecture: str) -> str:
    """Return the family that a class of transformers belongs to.

    Raises:
        UsageError: When the class cannot be a source.

    Example:
        >>> model_family("SwinForImageClassification"), model_family("Wav2Vec2ForSequenceClassification")
        ('image classification', 'audio classification')
    """
    for family, names in FAMILIES.items():
        for listed in names.values():
            if architecture == listed or (isinstance(listed, tuple | list) and architecture in listed):
                return family
    raise UsageError(
        f"The transformers class {architecture!r} cannot be a source. Supported families: {', '.join(FAMILIES)} "
        "(the only contrastive class is CLIPModel)."
    )


def load(spec: HfSpec, input_size: int | None, *, head: bool) -> Source:
    """Load the source that the spec describes.

    Raises:
        InputError: When files are missing, damaged, or do not fit.
        UsageError: When the class cannot be a source, has no head where one is needed, or takes no such size.
    """
    architecture = spec.class_name()
    family = model_family(architecture)
    if family in ("encoder", "encoder and decoder", "pretraining of audio") and head:
        raise headless_error(spec.name)
    with quiet_library():
        model, untrained = _model(spec, architecture, family)
        if getattr(model.config, "is_encoder_decoder", False):
            # The decoder writes a text of its own, which depends on more than the input. The encoder is a bare source.
            model, family = model.get_encoder(), "encoder"
        if family == "pretraining of audio":
            model, family = model.base_model, "encoder"
        kind = INPUTS.get(getattr(model, "main_input_name", ""))
        if kind is None:
            raise UsageError(f"{architecture} is not an encoder of images, text or audio, so it cannot be a source.")
        # Imported one by one, because the library's image processing takes seconds to import and text does not need it.
        if family == "contrastive":
            from modgap.sources.hf.clip import contrastive_source

            return contrastive_source(spec, model, input_size)
        if kind == "text":
            from modgap.sources.hf.text import text_source

            return text_source(spec, model, family, input_size)
        if family == "speech recognition":
            from modgap.sources.hf.image_audio import speech_source

            return speech_source(spec, model, input_size)
        from modgap.sources.hf.image_audio import image_audio_source

        return image_audio_source(spec, model, kind, family, input_size, pooler=not untrained)


def _model(spec: HfSpec, architecture: str, family: str) -> tuple[Any, list[str]]:
    """Return the model in evaluation mode, and the names of the tensors that the weights lack."""
    files = spec.files
    configuration = files.configuration()
    if "quantization_config" in configuration:
        raise UsageError(
            f"{spec.name} has quantized weights, which are not supported. Use the model that they were made from."
        )
    cls = getattr(transformers, architecture)
    with one_line_errors(
        f"transformers cannot build {architecture} from {files.configuration_folder() / 'config.json'}"
    ):
        config = cls.config_class.from_pretrained(files.configuration_folder())
        if spec.control_seed is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(spec.control_seed)
                with limited_model(spec.name):
                    return cls(config).float().eval(), []
    state = {name: tensor for path in files.weight_files() for name, tensor in read_weights(path).items()}
    with one_line_errors(f"The weights of {spec.name} do not fit {architecture}"), limited_model(spec.name, state):
        model, report = cls.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    untrained = sorted(report["missing_keys"])
    allowed = UNUSED if family == "encoder" else ()
    missing = [name for name in untrained if not name.startswith(allowed)] if allowed else untrained
    if missing or report["mismatched_keys"]:
        raise InputError(
            f"The weights of {spec.name} do not fit {architecture}: {len(missing)} tensors are missing and "
            f"{len(report['mismatched_keys'])} have another shape (first: {[*missing, *report['mismatched_keys']][0]})."
        )
    return model.eval(), untrained
