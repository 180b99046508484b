"""A job of a ranking whose result is in the cache."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from modgap.jobs import without_raising
from modgap.storage.cache import CacheEntry, cache_key, cached, find_cached

Result = TypeVar("Result")


class CachedJob(ABC, Generic[Result]):
    """A job that finds its result in the cache, or computes it and stores it there.

    Attributes:
        cache_kind: Kind of the cache entries of these jobs.
    """

    cache_kind: ClassVar[str]

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """Return everything that the result depends on."""

    @property
    def key(self) -> str:
        """Key of the result in the cache."""
        return cache_key(self.identity())

    @abstractmethod
    def _compute(self) -> Result:
        """Compute the result."""

    @abstractmethod
    def _encode(self, result: Result) -> CacheEntry:
        """Return the cache entry of a result."""

    @abstractmethod
    def _decode(self, entry: CacheEntry) -> Result:
        """Return the result in a cache entry."""

    def load_cached(self) -> Result | None:
        """Return the result from the cache. None if there is none."""
        return find_cached(self.cache_kind, self.key, self._decode)

    @without_raising
    def __call__(self) -> Result:
        """Return the result from the cache, or compute it, or return the reason why that failed."""
        return cached(self.cache_kind, self.key, self._compute, self._encode, self._decode)
