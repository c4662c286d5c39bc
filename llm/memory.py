"""Freed memory, given back to the machine that others share."""

import ctypes


def give_back_freed_memory() -> None:
    """Let the C library return what it keeps for later to the operating system.

    After a training step glibc holds the activations' memory, some 650 MB for the embedded model,
    while an actor waits for its next message and other processes could use it. Other C libraries
    have no such call, and nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
