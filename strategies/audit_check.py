"""One thing that an audit looked at."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One thing that holds or does not.

    Parameters
    ----------
    round : int
        The round it belongs to; 0 for the run as a whole.
    name : str
        What was checked.
    holds : bool
        Whether it holds.
    detail : str
        What was found, where it does not.
    """

    round: int
    name: str
    holds: bool
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Lay the check out for ``--json``."""
        return asdict(self)


def equal(round_number: int, name: str, found: bytes, expected: bytes) -> Check:
    """Return the check that two hashes are the same."""
    return Check(
        round_number,
        name,
        found == expected,
        f"found 0x{found.hex()}, expected 0x{expected.hex()}",
    )
