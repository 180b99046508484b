"""Baselines for texts and for strings such as DNA, proteins and molecules: TF-IDF and counts of k-mers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_matrix

from modgap.baselines.baseline import TASKS, Baseline, Features, SampleForm, all_samples
from modgap.baselines.parts import Affine, Part, Trees
from modgap.baselines.predictors import EXTRA_TREES, LINEAR, TEXT_LINEAR
from modgap.errors import InputError
from modgap.targets import Samples

MOST_TERMS = 50_000
"""Largest number of different terms, the most frequent ones."""
MOST_KMERS = 2_000
"""Largest number of different k-mers, whose counts trees read as a dense array."""
ANALYZERS = ("word", "char_wb", "char")


def _texts(samples: Samples, form: SampleForm) -> list[str]:  # noqa: ARG001
    texts = list(all_samples(samples))
    if not all(isinstance(text, str) for text in texts):
        raise InputError("A sample is not a text.")
    return [str(text) for text in texts]


@dataclass(frozen=True)
class Terms(Part):
    """Weighted counts of terms: of words, or of sequences of letters.

    Attributes:
        terms: The terms, in the order of the features.
        analyzer: `word`, `char_wb` for letters within words, or `char`, as in scikit-learn.
        shortest: Smallest number of words or letters of a term.
        longest: Largest number of them.
        weights: Weight of each term, such as its inverse document frequency, (terms,).
        is_normalized: True for logarithmic counts and rows of length 1, as in TF-IDF; False for shares of all terms.
    """

    kind: ClassVar[str] = "terms"
    texts: ClassVar[tuple[str, ...]] = ("terms",)
    terms: tuple[str, ...]
    analyzer: str
    shortest: int
    longest: int
    weights: np.ndarray
    is_normalized: bool

    def __call__(self, values: Sequence[str]) -> csr_matrix | np.ndarray:
        """Return the features (n, terms) of texts: TF-IDF as a sparse array, shares as a dense one."""
        from sklearn.preprocessing import normalize

        counts = _counter(self.analyzer, self.shortest, self.longest, self.terms).transform(values)
        features = csr_matrix(counts, dtype=np.float64)
        if not self.is_normalized:
            shares: np.ndarray = normalize(features, norm="l1").toarray()
            return shares
        features.data = 1 + np.log(features.data)
        return csr_matrix(normalize(features.multiply(self.weights)))

    def check(self) -> None:
        """Raise a ValueError if a term occurs twice, or a setting is none of scikit-learn's."""
        if len(set(self.terms)) != len(self.terms) or self.weights.shape != (len(self.terms),) or not self.terms:
            raise ValueError("the terms do not fit their weights")
        sizes = (self.shortest, self.longest)
        if self.analyzer not in ANALYZERS or any(type(size) is not int for size in sizes):
            raise ValueError("the terms are counted in another way")
        if not 1 <= self.shortest <= self.longest <= LONGEST or type(self.is_normalized) is not bool:
            raise ValueError("the terms have another length")


LONGEST = 8


def _counter(
    analyzer: str, shortest: int, longest: int, terms: Sequence[str] | None = None, most: int = MOST_TERMS
) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(
        analyzer=analyzer,
        ngram_range=(shortest, longest),
        lowercase=analyzer != "char",
        vocabulary=None if terms is None else list(terms),
        max_features=most,
    )


def _fit_terms(texts: list[str], analyzer: str, shortest: int, longest: int, *, is_normalized: bool) -> Part:
    counter = _counter(analyzer, shortest, longest, most=MOST_TERMS if is_normalized else MOST_KMERS)
    try:
        counts = counter.fit_transform(texts)
    except ValueError as error:
        raise InputError("The texts of the training have no words to count.") from error
    terms = tuple(str(term) for term in counter.get_feature_names_out())
    frequencies = np.bincount(counts.indices, minlength=len(terms))
    weights = np.log((1 + len(texts)) / (1 + frequencies)) + 1 if is_normalized else np.ones(len(terms))
    return Terms(terms, analyzer, shortest, longest, weights, is_normalized)


def _terms(name: str, analyzer: str, shortest: int, longest: int, *, is_normalized: bool) -> Features:
    """Return features of texts that count terms, in scikit-learn's terms; see `Terms`."""

    def fit(texts: list[str], _form: SampleForm, _seed: int) -> Part:
        return _fit_terms(texts, analyzer, shortest, longest, is_normalized=is_normalized)

    return Features(name, _texts, fit)


KMERS = _terms("shares of k-mers", "char", 1, 4, is_normalized=False)
TFIDF = "TF-IDF with logistic or ridge regression"
BASELINES = (
    Baseline(
        "tf-idf-words",
        f"{TFIDF}, of words",
        "Sparck Jones 1972, scikit-learn",
        ("text",),
        TASKS,
        (_terms("TF-IDF of words", "word", 1, 2, is_normalized=True),),
        TEXT_LINEAR,
        (Terms, Affine),
        seconds=10,
    ),
    Baseline(
        "tf-idf-letters",
        f"{TFIDF}, of sequences of 2 to 5 letters",
        "Sparck Jones 1972, scikit-learn",
        ("text",),
        TASKS,
        (_terms("TF-IDF of letters", "char_wb", 2, 5, is_normalized=True),),
        TEXT_LINEAR,
        (Terms, Affine),
        seconds=7,
    ),
    Baseline(
        "k-mers",
        "shares of sequences of 1 to 4 letters with logistic or ridge regression",
        "Leslie et al. 2002, scikit-learn",
        ("text",),
        TASKS,
        (KMERS,),
        LINEAR,
        (Terms, Affine),
        seconds=24,
    ),
    Baseline(
        "k-mer-trees",
        "extremely randomized trees on shares of sequences of 1 to 4 letters",
        "Geurts et al. 2006, scikit-learn",
        ("text",),
        TASKS,
        (KMERS,),
        EXTRA_TREES,
        (Terms, Trees),
        seconds=8,
    ),
)
