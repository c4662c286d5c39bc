"""A check, and what it found."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client_app.doctor.machine import Machine


class Status(StrEnum):
    """What became of a check."""

    HOLDS = "ok"
    WARNS = "warns"
    FAILS = "fails"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Parameters
    ----------
    status : Status
        What became of it.
    found : str
        What was found; no secret, and no word of an organization's records.
    remedy : str
        What to do; empty where it holds.
    """

    status: Status
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Parameters
    ----------
    name : str
        What it is called; unique on a kind of machine.
    look : callable
        Looks. An error of Foedus' own that it raises is what it found.
    remedy : str
        What to do about such an error.
    needs : tuple of str
        Checks before it; where one of them fails, this one says nothing new.
    """

    name: str
    look: "Callable[[Machine], Finding]"
    remedy: str
    needs: tuple[str, ...] = ()


def holds(found: str) -> Finding:
    """Return that all is well."""
    return Finding(Status.HOLDS, found)


def warns(found: str, remedy: str) -> Finding:
    """Return that something wants attention, and does not stop a run."""
    return Finding(Status.WARNS, found, remedy)


def fails(found: str, remedy: str) -> Finding:
    """Return that something does not hold."""
    return Finding(Status.FAILS, found, remedy)
