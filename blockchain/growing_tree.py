"""The RFC 9162 tree of a log that grows: appends, roots and proofs without hashing it all again.

:mod:`blockchain.transparency_log` works on a list of leaves, in time proportional to it. Here every
complete subtree is kept, so that an append costs one hash on average, and a root or proof of any
size about ``log2(size)``; 64 bytes a leaf in memory. Nothing of it is ever stored: it is made anew
from the leaves, for a stored hash would hide a changed leaf.
"""

from collections.abc import Iterable

from blockchain.transparency_log import EMPTY_ROOT, parent_hash


class GrowingTree:
    """A Merkle tree over leaf hashes.

    Parameters
    ----------
    hashes : iterable of bytes
        The first leaf hashes, 32 bytes each (`blockchain.transparency_log.leaf_hash`).
    """

    def __init__(self, hashes: Iterable[bytes] = ()) -> None:
        # _levels[k][i] is the root over the leaves from i * 2**k up to (i + 1) * 2**k.
        self._levels: list[list[bytes]] = [[]]
        self.extend(hashes)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def leaf(self, index: int) -> bytes:
        """Return the hash of leaf `index`; `IndexError` where there is none."""
        self._check_leaf(index)
        return self._levels[0][index]

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        for leaf in hashes:
            self._append(leaf)

    def truncate(self, size: int) -> None:
        """Drop all leaves from `size` on; `ValueError` where there are fewer."""
        self._checked(size)
        for height, level in enumerate(self._levels):
            del level[size >> height :]

    def replace(self, index: int, leaf: bytes) -> None:
        """Put another hash in the place of leaf `index`; `IndexError` where there is none."""
        self._check_leaf(index)
        self._levels[0][index] = leaf
        for height in range(1, len(self._levels)):
            index >>= 1
            if index >= len(self._levels[height]):
                return
            below = self._levels[height - 1]
            self._levels[height][index] = parent_hash(below[2 * index], below[2 * index + 1])

    def root(self, size: int | None = None) -> bytes:
        """Root over the first `size` leaves (all, unless told otherwise), 32 bytes.

        Raises
        ------
        ValueError
            There are fewer.
        """
        size = self._checked(size)
        return self._node(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Return RFC 9162's ``PATH(index, D[size])`` (section 2.1.3.1).

        Raises
        ------
        ValueError
            There is no such leaf, or there are fewer leaves than `size`.
        """
        size = self._checked(size)
        if not 0 <= index < size:
            raise ValueError(f"leaf {index} of a tree with {size} leaves")
        return self._path(index, 0, size)

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[bytes]:
        """Return RFC 9162's ``PROOF(old_size, D[size])`` (section 2.1.4.1).

        Raises
        ------
        ValueError
            `old_size` is not from 1 up to `size`, or there are fewer leaves than `size`.
        """
        size = self._checked(size)
        if not 1 <= old_size <= size:
            raise ValueError(f"old_size: expected 1 to {size}, got {old_size}")
        return self._subproof(old_size, 0, size, whole=True)

    def _check_leaf(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise IndexError(f"leaf {index} of a tree with {self.size} leaves")

    def _append(self, node: bytes) -> None:
        height = 0
        self._levels[0].append(node)
        while len(self._levels[height]) % 2 == 0:
            left, right = self._levels[height][-2:]
            height += 1
            if height == len(self._levels):
                self._levels.append([])
            self._levels[height].append(parent_hash(left, right))

    def _node(self, start: int, size: int) -> bytes:
        """Root over `size` leaves from `start`, which is a multiple of the next power of two."""
        if size & (size - 1) == 0:
            height = size.bit_length() - 1
            return self._levels[height][start >> height]
        left = _left_size(size)
        return parent_hash(self._node(start, left), self._node(start + left, size - left))

    def _path(self, index: int, start: int, size: int) -> list[bytes]:
        if size == 1:
            return []
        left = _left_size(size)
        if index < left:
            return [*self._path(index, start, left), self._node(start + left, size - left)]
        right = self._path(index - left, start + left, size - left)
        return [*right, self._node(start, left)]

    def _subproof(self, old: int, start: int, size: int, *, whole: bool) -> list[bytes]:
        if old == size:
            return [] if whole else [self._node(start, size)]
        left = _left_size(size)
        if old <= left:
            inner = self._subproof(old, start, left, whole=whole)
            return [*inner, self._node(start + left, size - left)]
        inner = self._subproof(old - left, start + left, size - left, whole=False)
        return [*inner, self._node(start, left)]

    def _checked(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ValueError(f"size: expected 0 to {self.size}, got {size}")
        return size


def _left_size(size: int) -> int:
    """Return the largest power of two below `size` (RFC 9162, section 2.1.1)."""
    return 1 << (size - 1).bit_length() - 1
