"""Good requests to forget on a real chain, and what ends them."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from blockchain.errors import TransactionRevertedError
from blockchain.public_chain import PublicChain
from blockchain.typed_data import Domain, sign_digest
from blockchain.unlearning_messages import (
    Cancellation,
    Completion,
    Guarantee,
    Request,
    RequestState,
    UnlearningScope,
    subject_commitment,
)
from tests.chain_samples import digest
from tests.signed_statements import EAST, NORTH, SOUTH, WEST
from tests.signing_cases import DEADLINE, account_of

DONE = Completion(digest("evidence"), digest("forgetful"), 1, Guarantee.EXACT_REPLAY)
NAMES = {EAST: "east", NORTH: "north", SOUTH: "south", WEST: "west"}
_salts = itertools.count()


def wanted(task: bytes, organization: bytes = WEST, deadline: int = DEADLINE) -> Request:
    """A request that nobody brought yet."""
    salt = digest(f"salt {next(_salts)}")
    subject = subject_commitment(salt, UnlearningScope.RECORDS, [1, 5, 9])
    return Request(task, organization, subject, UnlearningScope.RECORDS, deadline)


def signed(
    chain: PublicChain,
    said: Request | Cancellation,
    name: str = "west",
    domain: Domain | None = None,
) -> bytes:
    return sign_digest(said.digest(domain or chain.unlearning_domain), account_of(name))


def open_request(chain: PublicChain, request: Request) -> bytes:
    """Bring a request of whoever it names; its id."""
    name = NAMES[request.organization]
    assert chain.unlearning.ask(request, signed(chain, request, name)) is not None
    return request.id


def approved(chain: PublicChain, id: bytes, completion: Completion = DONE) -> dict[bytes, bytes]:
    """What both attestors sign, in no particular order."""
    return {
        who: sign_digest(
            completion.digest(chain.unlearning_domain, id, who), account_of(NAMES[who])
        )
        for who in sorted((EAST, NORTH), reverse=True)
    }


def state_of(chain: PublicChain, id: bytes) -> RequestState:
    stored = chain.unlearning.request_of(id)
    return RequestState.NONE if stored is None else stored.state


def block_time(chain: PublicChain, block: int) -> int:
    return int(chain.node.eth.get_block(block)["timestamp"])


@contextmanager
def refused(
    chain: PublicChain, id: bytes, error: str
) -> Iterator[pytest.ExceptionInfo[TransactionRevertedError]]:
    """Have the contract refuse what is brought, with this error and the request as it was."""
    before = chain.unlearning.request_of(id)
    with pytest.raises(TransactionRevertedError) as caught:
        yield caught
    assert caught.value.error == error
    assert chain.unlearning.request_of(id) == before


#: What ends a request, by the state that it then has.
ENDS: dict[RequestState, Callable[[PublicChain, bytes], object]] = {
    RequestState.COMPLETED: lambda chain, id: chain.unlearning.complete(
        id, DONE, approved(chain, id)
    ),
    RequestState.REJECTED: lambda chain, id: chain.unlearning.reject(id, 7, digest("why")),
    RequestState.CANCELLED: lambda chain, id: chain.unlearning.cancel(
        id, signed(chain, Cancellation(id))
    ),
}
