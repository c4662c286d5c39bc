"""Which blocks to ask a node's events of at once: no node answers for all there are."""


def next_range(first: int, newest: int, size: int) -> tuple[int, int] | None:
    """Blocks to read next, both ends included: from `first`, at most `size`, none above `newest`.

    None where `newest` is below `first`.
    """
    last = min(first + size - 1, newest)
    return (first, last) if last >= first else None
