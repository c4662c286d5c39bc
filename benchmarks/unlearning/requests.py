"""What is forgotten in each case, and what a federation that never held it lacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.unlearning.cells import Cell
from benchmarks.unlearning.holdings import Holding
from llm.keyed_hash import keyed_hash
from llm.records import Record
from unlearning.verification import Canary

_PURPOSE: Final = "foedus/benchmark/forget/v1"
_SHARE: Final = {"records-1": 0.01, "records-10": 0.1, "sequence": 0.01, "together": 0.1}
_LEAST: Final = 3
#: Requests in a sequence.
REQUESTS: Final = 10
#: Organizations that ask at once.
TOGETHER: Final = 3


@dataclass(frozen=True)
class Forgotten:
    """What one organization has forgotten.

    Parameters
    ----------
    records : tuple of Record
        Without canaries: what models are asked about.
    canaries : tuple of Canary
        Whose copies are forgotten as well.
    """

    records: tuple[Record, ...]
    canaries: tuple[Canary, ...]

    @property
    def training(self) -> tuple[Record, ...]:
        """All that was trained on."""
        return (*self.records, *(copy for one in self.canaries for copy in one.records))


@dataclass(frozen=True)
class Request:
    """What is forgotten at a time.

    Parameters
    ----------
    forgotten : mapping of str to Forgotten
        By organization.
    withdrawn : bool
        Whether the organization leaves.
    """

    forgotten: Mapping[str, Forgotten]
    withdrawn: bool = False

    @property
    def gone(self) -> "Gone":
        """What is not there any more."""
        return Gone(
            frozenset(record.id for one in self.forgotten.values() for record in one.training),
            frozenset(self.forgotten) if self.withdrawn else frozenset(),
        )


@dataclass(frozen=True)
class Gone:
    """What a federation lacks.

    Parameters
    ----------
    ids : frozenset of str
        Records.
    organizations : frozenset of str
        Who takes no part.
    """

    ids: frozenset[str] = frozenset()
    organizations: frozenset[str] = frozenset()

    def __or__(self, other: "Gone") -> "Gone":
        return Gone(self.ids | other.ids, self.organizations | other.organizations)


def requests_of(cell: Cell, held: Mapping[str, Holding], rounds: int) -> list[Request]:
    """Return the requests of a cell's case, one after the other.

    Parameters
    ----------
    cell : Cell
        Its case, organization and set count.
    held : mapping of str to Holding
        By organization.
    rounds : int
        Of the run: what no round drew is not in any set.

    Raises
    ------
    ValueError
        If there is no such organization or set.
    """
    names = list(held)
    if cell.organization not in names:
        raise ValueError(f"{cell.organization!r}: expected one of {', '.join(names)}")
    if cell.case == "withdrawal":
        if cell.index:
            raise ValueError(f"set {cell.index} of a withdrawal: expected 0, all is forgotten")
        everything = _among(held[cell.organization], rounds, held[cell.organization].records)
        forgotten = Forgotten(everything, held[cell.organization].canaries)
        return [Request({cell.organization: forgotten}, withdrawn=True)]
    share = _SHARE[cell.case]
    if cell.case == "sequence":
        first = cell.index * REQUESTS
        return [
            Request({cell.organization: _block(held[cell.organization], share, index, rounds)})
            for index in range(first, first + REQUESTS)
        ]
    asking = names[names.index(cell.organization) :] + names
    asking = asking[: TOGETHER if cell.case == "together" else 1]
    return [Request({name: _block(held[name], share, cell.index, rounds) for name in asking})]


def all_gone(requests: Sequence[Request]) -> Gone:
    """Return what is gone after all requests."""
    gone = Gone()
    for request in requests:
        gone |= request.gone
    return gone


def first_affected(held: Mapping[str, Holding], gone: Gone, rounds: int) -> int:
    """Return the first round whose draws change; one after the last where none does."""
    for number in range(1, rounds + 1):
        for name, holding in held.items():
            if name in gone.organizations:
                return number
            if any(record.id in gone.ids for record in holding.round(number)):
                return number
    return rounds + 1


def _block(holding: Holding, share: float, index: int, rounds: int) -> Forgotten:
    """Return one of the disjoint sets of a size: of records by keyed hash, of canaries in turn.

    A set keeps its records whatever the rounds are; those that no round drew are left out of it.
    """
    size = max(_LEAST, int(share * len(holding.records)))
    sets = len(holding.records) // size
    if not 0 <= index < sets:
        raise ValueError(
            f"set {index} of {holding.name}: expected 0 to {sets - 1}, "
            f"{len(holding.records)} records make {sets} sets of {size}"
        )
    ranked = sorted(
        holding.records, key=lambda one: keyed_hash(b"", _PURPOSE, holding.name, one.id)
    )
    chosen = ranked[index * size : (index + 1) * size]
    return Forgotten(_among(holding, rounds, chosen), holding.canaries[index::sets])


def _among(holding: Holding, rounds: int, records: Sequence[Record]) -> tuple[Record, ...]:
    used = holding.used(rounds)
    found = tuple(record for record in records if record.id in used)
    if not found:
        raise ValueError(f"{holding.name}: no round drew any of {len(records)} records")
    return found
