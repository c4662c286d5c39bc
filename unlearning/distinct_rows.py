"""Records' rows, each read once: copies of one text have one loss."""

from collections.abc import Sequence
from dataclasses import dataclass

from llm.tokenization import EncodedRecord, Row, completion_row


@dataclass(frozen=True)
class DistinctRows:
    """The rows of some records.

    Parameters
    ----------
    rows : list of Row
        All different, in the order in which they first come.
    places : list of int
        Each record's row, by its place in ``rows``.
    """

    rows: list[Row]
    places: list[int]

    @classmethod
    def of(cls, records: Sequence[EncodedRecord]) -> "DistinctRows":
        """Lay records out, in their order."""
        place_of: dict[Row, int] = {}
        places = [
            place_of.setdefault(completion_row(one.prompt, one.completion), len(place_of))
            for one in records
        ]
        return cls(list(place_of), places)

    @property
    def tokens(self) -> int:
        """Tokens that are read, without padding."""
        return sum(len(row.tokens) for row in self.rows)


def first_copies(records: Sequence[EncodedRecord]) -> dict[str, str]:
    """Return by each record's id that of the first one with the same row."""
    firsts: dict[int, str] = {}
    places = DistinctRows.of(records).places
    return {
        record.id: firsts.setdefault(place, record.id)
        for record, place in zip(records, places, strict=True)
    }
