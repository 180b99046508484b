"""Boolean matrices that are kept in bits, because folds of millions of samples would take more memory than logits."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np


@dataclass(frozen=True, eq=False)
class Masks:
    """Boolean matrix (J, N), kept in bits and read by rows or by ranges of columns. NumPy functions take it whole.

    Attributes:
        bits: The rows in bits, shape (J, N / 8 rounded up), uint8.
        size: Number N of columns.

    Example:
        >>> masks = Masks.pack([[True, False, True], [False, False, True]])
        >>> masks[0]
        array([ True, False,  True])
        >>> np.asarray(masks[1:])
        array([[False, False,  True]])
    """

    bits: np.ndarray
    size: int

    @classmethod
    def pack(cls, rows: Iterable[np.ndarray | list[bool]], size: int | None = None) -> "Masks":
        """Pack rows of Booleans, one after the other.

        Args:
            rows: J rows, each of shape (N,).
            size: Number N of columns; None for that of the first row.
        """
        packed = []
        for row in rows:
            size = len(row) if size is None else size
            packed.append(np.packbits(np.asarray(row, bool)))
        n_columns = size or 0
        return cls(np.array(packed, np.uint8).reshape(len(packed), -(-n_columns // 8)), n_columns)

    @classmethod
    def stack(cls, parts: Sequence["Masks"], size: int) -> "Masks":
        """Return the rows of several masks of N columns, one below the other; none if there are no masks."""
        none = np.empty((0, -(-size // 8)), np.uint8)
        return cls(np.concatenate([none, *(part.bits for part in parts)]), size)

    def __len__(self) -> int:
        """Return the number J of rows."""
        return len(self.bits)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns (J, N)."""
        return len(self.bits), self.size

    @property
    def nbytes(self) -> int:
        """Size of the bits in bytes."""
        return int(self.bits.nbytes)

    @overload
    def __getitem__(self, rows: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, rows: slice | np.ndarray) -> "Masks": ...

    def __getitem__(self, rows: int | slice | np.ndarray) -> "np.ndarray | Masks":
        """Return one row as Booleans (N,), or several rows as masks."""
        if isinstance(rows, slice | np.ndarray):
            return Masks(self.bits[rows], self.size)
        return np.unpackbits(self.bits[rows], count=self.size).view(bool)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield each row as Booleans (N,)."""
        for row in range(len(self)):
            yield self[row]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the whole matrix as Booleans (J, N)."""
        return self.columns(0, self.size).astype(dtype or bool, copy=False)

    def columns(self, start: int, stop: int) -> np.ndarray:
        """Return columns from `start` to before `stop` as Booleans, shape (J, stop - start)."""
        first = start // 8
        unpacked = np.unpackbits(self.bits[:, first : -(-stop // 8)], axis=1)
        return unpacked[:, start - 8 * first : stop - 8 * first].view(bool)

    def take(self, columns: np.ndarray) -> "Masks":
        """Return masks whose column i is column `columns[i]` of these.

        Args:
            columns: Numbers of columns, shape (M,).
        """
        return Masks.pack((row[columns] for row in self), len(columns))
