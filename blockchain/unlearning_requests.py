"""The contract ``Unlearning``: requests to forget, and what became of each in public.

An organization signs a `Request` that anyone brings (`UnlearningRequests.ask`). Attestors then sign
that it was fulfilled (`complete`), the task's coordinator says that it will not be (`reject`), the
organization takes it back (`cancel`), or its deadline passes (`is_overdue`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from blockchain.contract import Contract
from blockchain.membership import approvals_argument
from blockchain.merkle import check_hash
from blockchain.sender import TransactionReceipt
from blockchain.typed_data import Domain, check_integer
from blockchain.unlearning_messages import (
    Completion,
    Guarantee,
    Request,
    RequestState,
    UnlearningScope,
)

#: Name of the contract's EIP-712 domain.
_DOMAIN_NAME: Final = "Foedus Unlearning"


@dataclass(frozen=True)
class StoredRequest:
    """A request as it stands on the chain.

    Parameters
    ----------
    request : Request
        What the organization signed.
    state : RequestState
        What became of it.
    requested_at : int
        Time of the block that brought it, seconds since the epoch.
    closed_at : int
        Time at which it was completed, rejected or cancelled, late if past the deadline; 0 while
        it is open.
    completion : Completion or None
        What attestors signed, if they did.
    reason : int
        Why the coordinator rejected it, 16 bits; 0 if it did not.
    details : bytes
        Hash of what the coordinator has to say about that, 32 bytes; zeros if there is nothing.
    """

    request: Request
    state: RequestState
    requested_at: int
    closed_at: int
    completion: Completion | None
    reason: int
    details: bytes


class UnlearningRequests:
    """The requests to forget of all tasks.

    Parameters
    ----------
    contract : Contract
        The contract, with an account where something is to be sent.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    @property
    def domain(self) -> Domain:
        """Where signatures about requests count."""
        return Domain(self._contract.settings.chain_id, self._contract.address, _DOMAIN_NAME)

    def ask(self, request: Request, signature: bytes) -> TransactionReceipt | None:
        """See to it that an organization's request stands on the chain, whoever pays for it.

        Parameters
        ----------
        request : Request
            What was signed.
        signature : bytes
            By the organization's present key, or the one that it left with, 65 bytes.

        Returns
        -------
        TransactionReceipt or None
            ``None`` where this very request was brought before, whatever became of it since: its
            id stands for all that it says.

        Raises
        ------
        TransactionRevertedError
            The deadline has passed, nobody opened the task, or another key signed.
        """
        if self.request_of(request.id) is not None:
            return None
        return self._contract.send("request", _struct(request), signature)

    def complete(
        self, id: bytes, completion: Completion, approvals: Mapping[bytes, bytes]
    ) -> TransactionReceipt:
        """Put on record that an open request was fulfilled, late or not, as attestors signed.

        Parameters
        ----------
        id : bytes
            Id of the request, 32 bytes.
        completion : Completion
            What they agree on.
        approvals : mapping of bytes to bytes
            Signature (65 bytes) by id of the attestor, as many as an attestation needs
            (`Membership.attestor_threshold`).

        Raises
        ------
        TransactionRevertedError
            The request is not open, too few signed, one of them is no attestor or did not sign
            this, or the task never had the first affected round.
        """
        check_hash(id, "id")
        return self._contract.send(
            "complete", id, _struct(completion), approvals_argument(approvals)
        )

    def reject(self, id: bytes, reason: int, details: bytes) -> TransactionReceipt:
        """Refuse an open request in public; for the account that opened its task.

        Parameters
        ----------
        id : bytes
            Id of the request, 32 bytes.
        reason : int
            Why, 16 bits, not 0; what each number means is agreed off the chain.
        details : bytes
            Hash of what there is to say about it, 32 bytes; zeros for nothing.
        """
        check_hash(id, "id")
        check_integer("reason", reason, 16)
        return self._contract.send("reject", id, reason, check_hash(details, "details"))

    def cancel(self, id: bytes, signature: bytes) -> TransactionReceipt:
        """Take an open request back, whoever pays for it.

        Parameters
        ----------
        id : bytes
            Id of the request, 32 bytes.
        signature : bytes
            Over the `Cancellation`, by the organization's present key, or the one that it left
            with, 65 bytes.
        """
        return self._contract.send("cancel", check_hash(id, "id"), signature)

    def request_of(self, id: bytes) -> StoredRequest | None:
        """Return a request; ``None`` for one that nobody brought."""
        fields = self._contract.read_struct("getRequest", check_hash(id, "id"))
        state = RequestState(fields["state"])
        if state is RequestState.NONE:
            return None
        return StoredRequest(
            request=Request(
                task=bytes(fields["task"]),
                organization=bytes(fields["organization"]),
                subject=bytes(fields["subject"]),
                scope=UnlearningScope(fields["scope"]),
                deadline=int(fields["deadline"]),
            ),
            state=state,
            requested_at=int(fields["requested_at"]),
            closed_at=int(fields["closed_at"]),
            # All zeros would read as the strongest guarantee.
            completion=(
                _completion(*fields["completion"]) if state is RequestState.COMPLETED else None
            ),
            reason=int(fields["reason"]),
            details=bytes(fields["details"]),
        )

    def is_overdue(self, id: bytes) -> bool:
        """Whether a request is still open after its deadline, by the time of the last block."""
        return bool(self._contract.read("isOverdue", check_hash(id, "id")))

    def asked(self, task: bytes, first_block: int) -> list[bytes]:
        """Return the ids of every request about a task, in the order they were brought in.

        Parameters
        ----------
        task : bytes
            Id of the task, 32 bytes.
        first_block : int
            Where to begin looking: the block in which the task was opened.
        """
        check_hash(task, "task")
        logs = self._contract.events(
            "UnlearningRequested", first_block, self._contract.height(), task=task
        )
        return [bytes(log["args"]["id"]) for log in logs]


def _struct(said: Request | Completion) -> tuple[Any, ...]:
    return tuple(said.values().values())


def _completion(evidence_root: bytes, adapter: bytes, first: int, guarantee: int) -> Completion:
    return Completion(bytes(evidence_root), bytes(adapter), int(first), Guarantee(guarantee))
