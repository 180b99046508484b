"""One word of a text as a sample, with the text around it."""

from collections.abc import Sequence
from typing import Any

__all__ = ["WordInText"]


class WordInText(str):
    """A word that carries its sentence. It is equal to the word wherever a string is expected.

    A model that returns one output for a whole string (the logits of a classifier) must be given the word itself,
    because all words of a sentence would get the same output otherwise. An encoder that returns one feature for
    each token takes `text` instead. The feature of the word is then that of the first token at or after
    `start` and before `end`, according to the tokenizer's character offsets.

    Attributes:
        text: The sentence, its words joined by spaces.
        start: Position of the word's first character in the sentence.
        end: Position after the word's last character.

    Example:
        >>> word = WordInText.from_words(["Swin", "transformers", "see"], 1)
        >>> word, word.text, word.text[word.start : word.end] == word
        ('transformers', 'Swin transformers see', True)
    """

    __slots__ = ("end", "start", "text")
    text: str
    start: int
    end: int

    def __new__(cls, text: str, start: int, end: int) -> "WordInText":
        """Return the word text[start:end]."""
        word = super().__new__(cls, text[start:end])
        for name, value in (("text", text), ("start", start), ("end", end)):
            object.__setattr__(word, name, value)
        return word

    @classmethod
    def from_words(cls, sentence: Sequence[str], index: int) -> "WordInText":
        """Return the word with this index in a sentence."""
        start = sum(len(word) + 1 for word in sentence[:index])
        return cls(" ".join(sentence), start, start + len(sentence[index]))

    def __setattr__(self, name: str, value: object) -> None:
        """Raise AttributeError, because words are immutable."""
        raise AttributeError(f"cannot set {name}: a WordInText is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the sentence and the word's position, for copies and for other processes."""
        return type(self), (self.text, self.start, self.end)
