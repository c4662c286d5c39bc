"""How a long preparation tells what it is doing; the caller decides how to show it."""

from typing import Protocol


class Progress(Protocol):
    """Receives each step of a preparation.

    Parameters
    ----------
    step : str
        What is being done, for people.
    done, total : int
        How far, in the step's own units (bytes for a download); ``total`` is 0 where unknown.
    """

    def __call__(self, step: str, done: int, total: int, /) -> None:
        """Show one step."""


def silent(step: str, done: int, total: int, /) -> None:
    """Show nothing."""
