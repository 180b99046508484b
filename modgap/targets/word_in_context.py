"""One word of a text as a sample, with the text around it."""

from collections.abc import Sequence

__all__ = ["WordInText"]


class WordInText(str):
    """A word that knows its sentence: it is the word wherever a string is expected.

    A model that gives one answer for a whole string (a classifier's logits) has to be given the word itself,
    since all words of a sentence would have the same answer otherwise. An encoder that gives one feature for
    each token takes `text` instead, and the feature of the word is that of the first token at or after
    `start` and before `end`, as a tokenizer's character offsets tell.

    Attributes:
        text: The sentence, words joined by blanks.
        start: Where the word starts in it, in characters.
        end: Where it ends.

    Example:
        >>> word = WordInText.at(["Swin", "transformers", "see"], 1)
        >>> word, word.text, word.text[word.start : word.end] == word
        ('transformers', 'Swin transformers see', True)
    """

    __slots__ = ("end", "start", "text")
    text: str
    start: int
    end: int

    def __new__(cls, text: str, start: int, end: int) -> "WordInText":
        """The word text[start:end]."""
        word = super().__new__(cls, text[start:end])
        for name, value in (("text", text), ("start", start), ("end", end)):
            object.__setattr__(word, name, value)
        return word

    @classmethod
    def at(cls, words: Sequence[str], place: int) -> "WordInText":
        """The word at this place of a sentence."""
        start = sum(len(word) + 1 for word in words[:place])
        return cls(" ".join(words), start, start + len(words[place]))

    def __setattr__(self, name: str, value: object) -> None:
        """Nothing can be set."""
        raise AttributeError(f"cannot set {name}: a word in a text does not change")

    def __reduce__(self) -> tuple:
        """Copied, or sent to another process, as the sentence and the word's place."""
        return type(self), (self.text, self.start, self.end)
