"""What a run goes on from: rounds of earlier tasks that stand as they are, and then its own.

A run that unlearns keeps the rounds before the first affected one and replaces the rest. Its own
rounds are numbered from 1 on the chain, as every task's; draws, training, the rule and the agents
go by the number a round has in the lineage, its *logical* round, which is that of the run that it
replaces.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

_SPAN: Final = re.compile(r"0x([0-9a-f]{64}):(\d{1,5})")


@dataclass(frozen=True)
class Span:
    """Rounds of one task that are kept.

    Parameters
    ----------
    task : bytes
        Id of the task, 32 bytes.
    last : int
        The last logical round that is kept of it; the first one follows the span before.
    """

    task: bytes
    last: int


@dataclass(frozen=True)
class Lineage:
    """Which rounds a run keeps, oldest first; none where it begins by itself.

    Parameters
    ----------
    spans : tuple of Span
        Each goes on where the one before ends.

    Raises
    ------
    ValueError
        If they do not, or a task stands twice.
    """

    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        ends = [span.last for span in self.spans]
        # Of the last one nothing need be left: then its first round is replaced already.
        if ends != sorted(set(ends)):
            raise ValueError(f"lineage: kept rounds end at {ends}, expected them ascending")
        if len({span.task for span in self.spans}) != len(ends):
            raise ValueError("lineage: a task stands twice")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a lineage as a setting has it: ``0xTASK:ROUND``, separated by commas.

        Raises
        ------
        ValueError
            If it is none.
        """
        spans = []
        for part in text.split(",") if text else ():
            match = _SPAN.fullmatch(part)
            if match is None:
                raise ValueError(f"lineage: {part[:80]!r}, expected 0xTASK:ROUND")
            spans.append(Span(bytes.fromhex(match[1]), int(match[2])))
        return cls(tuple(spans))

    def __str__(self) -> str:
        """Return the lineage as a setting has it."""
        return ",".join(f"0x{span.task.hex()}:{span.last}" for span in self.spans)

    @property
    def after(self) -> int:
        """The last logical round that is kept; 0 where there is none."""
        return self.spans[-1].last if self.spans else 0

    @property
    def replaced(self) -> bytes | None:
        """The task whose later rounds are replaced; ``None`` where none are."""
        return self.spans[-1].task if self.spans else None

    def start_of(self, task: bytes) -> int:
        """Return the logical round after which a task of the lineage begins.

        Raises
        ------
        ValueError
            If it is none of them.
        """
        before = 0
        for span in self.spans:
            if span.task == task:
                return before
            before = span.last
        raise ValueError(f"0x{task.hex()} is no task of the lineage")

    def place_of(self, logical: int) -> tuple[bytes, int]:
        """Return the task that a kept round is of, and the round's number there.

        Raises
        ------
        ValueError
            If it is not kept.
        """
        for span in self.spans:
            if 1 <= logical <= span.last:
                return span.task, logical - self.start_of(span.task)
        raise ValueError(f"round {logical} is not kept: expected 1 to {self.after}")

    def own_number(self, task: bytes, logical: int) -> int:
        """Return the number that a logical round has in a task of the lineage, at least 1.

        Of a task that is not in it, or that begins later, it is that task's first round.
        """
        started = next((self.start_of(s.task) for s in self.spans if s.task == task), logical - 1)
        return max(1, logical - started)

    def keeping(self, task: bytes, last: int) -> "Lineage":
        """Return the lineage of a run that replaces rounds of this one's task.

        Parameters
        ----------
        task : bytes
            The task that has this lineage, 32 bytes.
        last : int
            The last logical round that is kept, 0 for none: of ``task``, or of an earlier one where
            that goes no further back.
        """
        kept = [span for span in self.spans if span.last < last]
        if last > self.after or not self.spans:
            return Lineage((*kept, Span(task, last)))
        return Lineage((*kept, Span(self.spans[len(kept)].task, last)))
