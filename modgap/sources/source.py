"""Pretrained source models: what is known before loading, the loaded model, its parts, and sources of plug-ins.

Plug-ins are entry points of two groups: of `modgap.sources`, each of which is a source, and of
`modgap.source_prefixes`, each of which opens the sources whose names begin with its name, such as `PREFIX:NAME`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modgap.errors import CONTROL_PREFIX, InputError, UsageError
from modgap.process.installed_packages import plugin_entries, requested_plugin, usable_plugins
from modgap.sources.inputs import Batch, Input

if TYPE_CHECKING:
    from torch import Tensor, nn


def is_control(name: str) -> bool:
    """Return True for the name of a random-weights control."""
    return name.startswith(CONTROL_PREFIX)


def control_name(name: str) -> str:
    """Return the name of the random-weights control of a source. The name of a control is returned as it is.

    Example:
        >>> control_name("vit-b"), control_name("random:vit-b"), pretrained_name("random:vit-b")
        ('random:vit-b', 'random:vit-b', 'vit-b')
    """
    return f"{CONTROL_PREFIX}{pretrained_name(name)}"


def pretrained_name(name: str) -> str:
    """Return the name of the pretrained source that a control belongs to. Any other name is returned as it is."""
    return name.removeprefix(CONTROL_PREFIX)


@dataclass(frozen=True)
class SourceInfo:
    """Description of a source, which can be read without loading the source.

    Attributes:
        name: Short name of the source.
        title: Description in a few words: model, data, reference.
        n_classes: Number of outputs of its head; None for a bare encoder.
        parameters: Number of parameters.
        input: Kind and size of its input, such as `image, 224 px`.
        license: License of the weights.
        weights: Origin of the weights, or the command that installs them.
        is_installed: True if the weights are on this machine.
        surrogate: Target and split of labeled data of the source's modality, to which stage 1 of a transfer aligns by
            default. None if no such data is registered.
        near_copies: Names of other sources whose knowledge is almost the same. The group `@diverse` takes them in place
            of this source.
    """

    name: str
    title: str
    n_classes: int | None
    parameters: int
    input: str
    license: str
    weights: str
    is_installed: bool
    surrogate: tuple[str, str] | None = None
    near_copies: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Kind of its input, such as image or sound: the first word of `input`."""
        return re.split(r"[^\w-]", self.input, maxsplit=1)[0]

    @property
    def kind_words(self) -> str:
        """Text in which words are searched when a user asks for a kind of input by another word than `kind`."""
        return self.input


@dataclass(frozen=True)
class Parts:
    """A source split in three, so that head(encoder(embedder(x))) equals the model's output bit for bit.

    Attributes:
        embedder: Module from a batch of the source's input to the encoder's input: tokens (B, T, D) or a feature map;
            for text, the tokens with their mask.
        encoder: Module from the embedder's output, or from tokens (B, T, D) of another embedder, to features.
        head: Module from features to logits (B, classes).
        tokens: Function from features to tokens (B, T, D), which a predictor or a probe can pool.
    """

    embedder: "nn.Module"
    encoder: "nn.Module"
    head: "nn.Module"
    tokens: "Callable[[Any], Tensor]"


@dataclass(frozen=True)
class Source:
    """A loaded source model, in evaluation mode.

    Attributes:
        model: The complete model, from a batch of its input to logits (B, classes).
        input: The source's preprocessing.
        class_names: Names of its classes, or their numbers; empty for a bare encoder, whose model returns features.
        convolutional: True if the model is convolutional throughout, so that it runs faster in channels-last layout.
        split: Function that returns the model's parts.
        features: Function from a batch to pooled features (B, D), on which the head is a linear layer; for text, the
            mean over tokens.
        notes: Everything else that decides the outputs, such as a zero-shot head's prompts, as pairs of a name and a
            value for the record.
    """

    model: "nn.Module"
    input: Input
    class_names: tuple[str, ...]
    convolutional: bool
    split: Callable[[], Parts]
    features: "Callable[[Batch], Tensor]"
    notes: tuple[tuple[str, str], ...] = ()


class SourceHandle(Protocol):
    """A source that was found by its name but is not loaded yet; it does not need torch."""

    @property
    def name(self) -> str:
        """Name of the source in results."""

    def fingerprint(self) -> dict[str, object]:
        """Return everything that decides the outputs: architecture, checksum of the weights, versions."""

    def load(self, input_size: int | None, *, head: bool = True) -> Source:
        """Load the source.

        Args:
            input_size: Height and width of an image source's input in pixels; None for the source's default.
            head: True if a classification head is needed. Without it, a bare encoder is loaded as well.

        Raises:
            InputError: When the weights are missing or do not fit.
            UsageError: When the source has no head but one is needed, or takes no images of this size.
        """


class HeadlessError(UsageError):
    """An error for a model without a classification head where one is needed."""


def headless_error(name: str) -> HeadlessError:
    """Return the error for a model without a classification head where one is needed."""
    return HeadlessError(
        f"Source {name} has no classification head. "
        'Fit one on labeled data of its modality with `head="probe:SURROGATE"`.'
    )


def package_error(name: str, install: str) -> InputError:
    """Return the error for a source whose package is not installed, with the command that installs it."""
    return InputError(f"Source {name} needs a package that is not installed. Install it with: {install}")


GROUP = "modgap.sources"
NOUN = "Source"
PREFIX_GROUP = "modgap.source_prefixes"
PREFIX_NOUN = "Source prefix"
OWN_PREFIXES = frozenset({"hf", "random", "timm"})
"""Prefixes of modgap's own sources, without the colon, which a plug-in cannot take."""


class SourcePlugin(Protocol):
    """The object that an entry point of the group `modgap.sources` refers to.

    The entry point's name is the source's name. An object may also have a method `control(seed)`, which returns a
    handle of the source's random-weights control: the same architecture with random weights of this seed, under the
    name `random:NAME`. Without it, the source has no control.
    """

    def describe(self) -> SourceInfo:
        """Return the description of the source without loading it."""

    def open(self, weights: Path | None) -> SourceHandle:
        """Return a handle of the source, with its default weights or the user's, without loading it."""


class PrefixPlugin(Protocol):
    """The object that an entry point of the group `modgap.source_prefixes` refers to.

    The entry point's name is the prefix, without the colon. An object may also have a method `control(argument, seed)`,
    as the `control` of a `SourcePlugin`.

    Attributes:
        title: Description of its sources in a few words, such as `Model in an ONNX file`.
        suffixes: Endings of the files that it opens, such as `.onnx`; empty if the text after the prefix is no path.
    """

    title: str
    suffixes: tuple[str, ...]

    def open(self, argument: str) -> SourceHandle:
        """Return a handle of the source that the text after the prefix names, without loading it.

        Raises:
            InputError: When files are missing.
            UsageError: When there is no such source.
        """


def plugin_names(reserved: frozenset[str]) -> list[str]:
    """Return the names of the plug-ins without importing them.

    Args:
        reserved: Names of modgap's own sources, which a plug-in cannot take.
    """
    return sorted(plugin_entries(GROUP, NOUN, reserved))


def plugin_infos(reserved: frozenset[str]) -> list[SourceInfo]:
    """Return the descriptions of the plug-ins. A broken plug-in causes a warning and is skipped.

    Args:
        reserved: As in `plugin_names`.
    """
    return [info for _, info in usable_plugins(plugin_entries(GROUP, NOUN, reserved), NOUN, _describe)]


def _describe(name: str, plugin: SourcePlugin) -> SourceInfo:
    info: object = plugin.describe()
    if not isinstance(info, SourceInfo):
        raise TypeError(f"describe() returned a {type(info).__name__}, not a SourceInfo")
    return replace(info, name=name)


def open_plugin(name: str, weights: Path | None, seed: int | None, reserved: frozenset[str]) -> SourceHandle | None:
    """Return the handle of the plug-in with this name, or None if there is none, without importing other plug-ins.

    Args:
        name: Name of the plug-in.
        weights: File or folder of weights that replaces the plug-in's default; None for the default.
        seed: Seed of the random weights of its control; None for the pretrained source.
        reserved: As in `plugin_names`.

    Raises:
        InputError: When the plug-in is broken.
        UsageError: When a control is asked for, and the plug-in has none.
    """

    def opened(_name: str, plugin: SourcePlugin) -> SourceHandle:
        if seed is None:
            return _checked_handle("open", plugin.open(weights))
        return _checked_handle("control", _control_method(f"Source plug-in {name}", plugin)(seed))

    entry = plugin_entries(GROUP, NOUN, reserved).get(name)
    return None if entry is None else requested_plugin(entry, NOUN, opened)


def prefix_plugins() -> dict[str, PrefixPlugin]:
    """Return the plug-ins that bring prefixes by their names. A broken plug-in causes a warning and is skipped."""
    return dict(usable_plugins(plugin_entries(PREFIX_GROUP, PREFIX_NOUN, OWN_PREFIXES), PREFIX_NOUN, _checked_prefix))


def find_prefix(name: str) -> PrefixPlugin | None:
    """Return the plug-in whose prefix a name of a source begins with; None if there is none.

    Raises:
        InputError: When the plug-in is broken.
    """
    entry = plugin_entries(PREFIX_GROUP, PREFIX_NOUN, OWN_PREFIXES).get(_split_prefix(name)[0])
    return None if entry is None else requested_plugin(entry, PREFIX_NOUN, _checked_prefix)


def open_prefix(name: str, seed: int | None) -> SourceHandle | None:
    """Return the handle of a source that a plug-in opens by a prefix of its name; None if there is no such plug-in.

    Args:
        name: Name of the source, such as `PREFIX:NAME`.
        seed: Seed of the random weights of its control; None for the pretrained source.

    Raises:
        InputError: When the plug-in is broken, or as its `open` does.
        UsageError: When a control is asked for, and the plug-in has none, or as its `open` does.
    """
    prefix, argument = _split_prefix(name)

    def opened(_name: str, plugin: PrefixPlugin) -> SourceHandle:
        if seed is None:
            return _checked_handle("open", plugin.open(argument))
        return _checked_handle("control", _control_method(f"Source prefix {prefix}:", plugin)(argument, seed))

    entry = plugin_entries(PREFIX_GROUP, PREFIX_NOUN, OWN_PREFIXES).get(prefix)
    return None if entry is None else requested_plugin(entry, PREFIX_NOUN, opened)


def _split_prefix(name: str) -> tuple[str, str]:
    """Return the prefix of a source's name, empty if it has none, and the text after it."""
    prefix, colon, argument = name.partition(":")
    return (prefix, argument) if colon else ("", name)


def _checked_prefix(_name: str, plugin: PrefixPlugin) -> PrefixPlugin:
    """Return the object of an entry point if it has all that a prefix needs."""
    if not (isinstance(plugin.title, str) and isinstance(plugin.suffixes, tuple) and callable(plugin.open)):
        raise TypeError("its title is no text, its suffixes are no tuple, or it cannot open sources")
    return plugin


def _checked_handle(method: str, handle: Any) -> SourceHandle:
    """Return what a method of a plug-in returned if it is a handle."""
    if not all(callable(getattr(handle, name, None)) for name in ("fingerprint", "load")):
        raise TypeError(f"{method}() returned a {type(handle).__name__}, not a source's handle")
    checked: SourceHandle = handle
    return checked


def _control_method(noun: str, plugin: object) -> Callable[..., object]:
    """Return the method of a plug-in that opens controls.

    Raises:
        UsageError: When it has none.
    """
    method: Callable[..., object] | None = getattr(plugin, "control", None)
    if method is None:
        raise UsageError(f"{noun} has no random: form. Pass its architecture as random:timm:NAME instead.")
    return method
