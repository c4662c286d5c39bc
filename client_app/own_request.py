"""A request to forget of one's own: as the ledger keeps it, as it is signed, and how it stands."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from blockchain.merkle import organization_id
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import UnlearningRequest
from blockchain.public_chain import PublicChain
from blockchain.unlearning_messages import (
    Guarantee,
    Request,
    RequestState,
    UnlearningScope,
    subject_commitment,
)
from blockchain.unlearning_requests import StoredRequest

#: What a ledger calls a scope.
SCOPES: Final[Mapping[UnlearningScope, Literal["records", "organization"]]] = {
    UnlearningScope.RECORDS: "records",
    UnlearningScope.ORGANIZATION: "organization",
}

_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))

_GUARANTEES: Final = {
    Guarantee.EXACT_ISOLATED: "exact isolation",
    Guarantee.EXACT_REPLAY: "exact replay",
    Guarantee.EMPIRICAL: "empirical, measured and not proven",
    Guarantee.NOTHING_TO_FORGET: "nothing to forget",
}


class Standing(StrEnum):
    """How a request stands: before the chain knows it, while it is open, or what ended it."""

    WAITING = "waiting"
    EXPIRED = "expired"
    OPEN = "open"
    OVERDUE = "overdue"
    COMPLETED = "completed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class OwnRequest:
    """A request of the organization's ledger, and what the chain has of it.

    Parameters
    ----------
    request : Request
        What is signed.
    method : {"exact", "fast"}
        How it is to be forgotten.
    positions : tuple of int
        Leaves of the data set that it is about; empty for the whole organization.
    salt : bytes
        Opens the subject's commitment together with them, 32 bytes.
    record : int
        Number of its record in the private ledger.
    records : int
        Records that it took out of the training set.
    stored : StoredRequest or None
        As the chain has it; ``None`` where it was not brought yet.
    """

    request: Request
    method: Literal["exact", "fast"]
    positions: tuple[int, ...]
    salt: bytes
    record: int
    records: int
    stored: StoredRequest | None

    @property
    def id(self) -> bytes:
        """Id of the request, 32 bytes."""
        return self.request.id

    def standing(self, now: int) -> Standing:
        """Return how it stands at a time of the chain, seconds since the epoch."""
        deadline = self.request.deadline
        if self.stored is None:
            # The contract takes it before its deadline, and counts it overdue after.
            return Standing.WAITING if now < deadline else Standing.EXPIRED
        if self.stored.state is RequestState.OPEN:
            return Standing.OPEN if now <= deadline else Standing.OVERDUE
        return Standing(self.stored.state.name.lower())

    def standing_in_words(self, now: int) -> str:
        """Return how it stands, for people, such as ``open, 6 days 23 hours left``."""
        standing, left = self.standing(now), self.request.deadline - now
        if standing is Standing.WAITING:
            return f"waiting to be brought, {_duration(left)} left"
        if standing is Standing.EXPIRED:
            return "expired before it was brought"
        if standing is Standing.OPEN:
            return f"open, {_duration(left)} left"
        if standing is Standing.OVERDUE:
            return f"overdue by {_duration(-left)}"
        return f"{standing}{self._why()}"

    def _why(self) -> str:
        stored = self.stored
        if stored is not None and stored.completion is not None:
            late = ", late" if stored.closed_at > self.request.deadline else ""
            return f": {_GUARANTEES[stored.completion.guarantee]}{late}"
        return f": reason {stored.reason}" if stored is not None and stored.reason else ""


def signed_request(
    organization: str,
    task: bytes,
    salt: bytes,
    scope: UnlearningScope,
    positions: Sequence[int],
    deadline: int,
) -> Request:
    """Return what an organization signs, from what its ledger keeps and the task."""
    subject = subject_commitment(salt, scope, positions)
    return Request(task, organization_id(organization), subject, scope, deadline)


def written_requests(
    ledger: Ledger, organization: str, tasks: Sequence[bytes], purpose: str
) -> Iterator[tuple[int, UnlearningRequest, Request | None]]:
    """Give the ledger's requests, each with its record and as signed where one of the tasks fits.

    A ledger does not name the task: it is the one under which the request's id comes out.
    """
    scopes = {name: scope for scope, name in SCOPES.items()}
    numbers = ledger.payloads_left(UnlearningRequest.record_type)
    for opened in ledger.read_all(numbers, purpose):
        payload = opened.payload
        if not isinstance(payload, UnlearningRequest):
            continue
        salt, scope = bytes.fromhex(payload.salt), scopes[payload.scope]
        signed = (
            signed_request(organization, task, salt, scope, payload.positions, payload.deadline)
            for task in tasks
        )
        fitting = (request for request in signed if request.id.hex() == payload.request)
        yield opened.leaf.record, payload, next(fitting, None)


def request_record(ledger: Ledger, identifier: bytes) -> UnlearningRequest | None:
    """Return what the ledger keeps of a request of its own; ``None`` if it knows of none."""
    numbers = ledger.payloads_left(UnlearningRequest.record_type)
    for opened in ledger.read_all(numbers, "to carry out a request to forget"):
        payload = opened.payload
        if isinstance(payload, UnlearningRequest) and payload.request == identifier.hex():
            return payload
    return None


def own_request(
    record: int, payload: UnlearningRequest, request: Request, records: int, chain: PublicChain
) -> OwnRequest:
    """Put together what the ledger keeps of a request and what the chain has of it."""
    return OwnRequest(
        request=request,
        method=payload.method,
        positions=payload.positions,
        salt=bytes.fromhex(payload.salt),
        record=record,
        records=records,
        stored=chain.unlearning.request_of(request.id),
    )


def _duration(seconds: int) -> str:
    """Give a time in its two largest units."""
    counts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        counts.append((count, unit))
    first = next((i for i, (count, _) in enumerate(counts) if count), len(counts) - 1)
    shown = [
        counts[first],
        *((count, unit) for count, unit in counts[first + 1 : first + 2] if count),
    ]
    return " ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in shown)
