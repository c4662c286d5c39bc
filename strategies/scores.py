"""The scores of a round in the one form that attestors sign: integers, sorted, hashed."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final, Literal, get_args

from blockchain.canonical import hash_json
from blockchain.merkle import check_hash

SCORES_VERSION: Final = 1

ScoreMethod = Literal["leave-one-out", "first-order"]

#: Largest score: what canonical JSON can hold.
_LARGEST: Final = 2**53 - 1
_FIELDS: Final = ("version", "task", "round", "validation", "method", "scores")


def micro_nats(nats: float) -> int:
    """Round a number of nats to whole micro-nats (1e-6 nats), halves to even, from its exact value.

    Raises
    ------
    ValueError, OverflowError
        If the number is not finite.
    """
    return round(Fraction(nats) * 1_000_000)


@dataclass(frozen=True)
class ScoreTable:
    """What each organization's update of one round was worth.

    Parameters
    ----------
    task : bytes
        Id of the task, 32 bytes.
    round : int
        The round, from 1.
    validation : bytes
        Hash of the public validation set that the scores were taken on, 32 bytes.
    method : {"leave-one-out", "first-order"}
        How they were computed.
    entries : tuple of (str, int)
        Organizations and their scores in micro-nats, sorted by name.

    Raises
    ------
    ValueError
        If a value is out of range, or the entries are out of order.
    """

    task: bytes
    round: int
    validation: bytes
    method: ScoreMethod
    entries: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        check_hash(self.task, "scores: task")
        check_hash(self.validation, "scores: validation set")
        if type(self.round) is not int or not 1 <= self.round <= _LARGEST:
            raise ValueError(f"scores: round {self.round!r}, expected an integer of at least 1")
        if self.method not in get_args(ScoreMethod):
            raise ValueError(
                f"scores: method {self.method!r:.100}, expected one of "
                f"{', '.join(get_args(ScoreMethod))}"
            )
        for name, score in self.entries:
            if type(name) is not str or not name:
                raise ValueError(f"scores: {name!r:.100}, expected an organization's name")
            if type(score) is not int or not 0 <= score <= _LARGEST:
                raise ValueError(
                    f"scores: {name} has {score!r:.100}, expected micro-nats from 0 to 2**53 - 1"
                )
        for (before, _), (after, _) in pairwise(self.entries):
            if before >= after:
                raise ValueError(f"scores: {after!r:.100} stands twice or out of order")

    @classmethod
    def of(
        cls,
        scores: Mapping[str, int],
        *,
        task: bytes,
        round: int,
        validation: bytes,
        method: ScoreMethod,
    ) -> "ScoreTable":
        """Put a table together from micro-nats by organization."""
        return cls(task, round, validation, method, tuple(sorted(scores.items())))

    @property
    def scores(self) -> dict[str, int]:
        """Micro-nats by organization."""
        return dict(self.entries)

    def hash(self) -> bytes:
        """Return the hash of the canonical encoding, 32 bytes: what attestors sign."""
        return hash_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Lay the table out, canonically encodable."""
        return {
            "version": SCORES_VERSION,
            "task": self.task.hex(),
            "round": self.round,
            "validation": self.validation.hex(),
            "method": self.method,
            "scores": [[name, score] for name, score in self.entries],
        }

    @classmethod
    def from_json(cls, document: Any) -> "ScoreTable":
        """Read a table back, and nothing that :meth:`to_json` would have written otherwise.

        Raises
        ------
        ValueError
            One line that says what is wrong.
        """
        if not isinstance(document, Mapping) or sorted(document) != sorted(_FIELDS):
            raise ValueError(f"the score table is malformed: expected {', '.join(_FIELDS)}")
        version, pairs = document["version"], document["scores"]
        if type(version) is not int or version != SCORES_VERSION:
            raise ValueError(f"score table version {version!r:.100}, expected {SCORES_VERSION}")
        if type(pairs) is not list or any(type(p) is not list or len(p) != 2 for p in pairs):
            raise ValueError("the score table is malformed: expected [organization, score] pairs")
        return cls(
            task=_hash(document["task"]),
            round=document["round"],
            validation=_hash(document["validation"]),
            method=document["method"],
            entries=tuple((name, score) for name, score in pairs),
        )


def agrees(own: ScoreTable, proposed: ScoreTable, tolerance: int) -> list[str]:
    """Hold a proposed table against one's own: what differs by more than another processor may.

    Parameters
    ----------
    own : ScoreTable
        What the attestor computed.
    proposed : ScoreTable
        What it is asked to sign.
    tolerance : int
        Micro-nats that two entries may lie apart, at least 0.

    Returns
    -------
    list of str
        One line a reason not to sign; empty where there is none.
    """
    reasons = [
        f"{what} is {theirs}, expected {ours}"
        for what, ours, theirs in (
            ("task", own.task.hex(), proposed.task.hex()),
            ("round", own.round, proposed.round),
            ("validation set", own.validation.hex(), proposed.validation.hex()),
            ("method", own.method, proposed.method),
        )
        if ours != theirs
    ]
    ours, theirs = own.scores, proposed.scores
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            reasons.append(f"{name} is missing")
        elif name not in ours:
            reasons.append(f"{name!r:.100} is not expected")
        elif abs(ours[name] - theirs[name]) > tolerance:
            reasons.append(
                f"{name} has {theirs[name]} micro-nats, expected {ours[name]} "
                f"give or take {tolerance}"
            )
    return reasons


def _hash(text: Any) -> bytes:
    """Read 32 bytes in the one form that is written: 64 lower-case hexadecimal digits."""
    try:
        value = bytes.fromhex(text)
    except (TypeError, ValueError):
        value = b""
    if len(value) != 32 or value.hex() != text:
        raise ValueError(f"the score table holds {text!r:.100}, expected 32 bytes in hexadecimal")
    return value
