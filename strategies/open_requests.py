"""The open requests to forget about some tasks, as the public chain has them."""

from collections.abc import Iterable

from blockchain.public_chain import PublicChain
from blockchain.unlearning_messages import RequestState
from blockchain.unlearning_requests import StoredRequest


def open_requests(chain: PublicChain, tasks: Iterable[bytes]) -> list[StoredRequest]:
    """Return the requests about tasks (32 bytes each) that nothing has become of yet."""
    found = []
    for task in tasks:
        for identifier in chain.unlearning.asked(task, chain.task(task).opened_block):
            stored = chain.unlearning.request_of(identifier)
            if stored is not None and stored.state is RequestState.OPEN:
                found.append(stored)
    return found


def open_requests_about(chain: PublicChain, tasks: Iterable[bytes]) -> frozenset[bytes]:
    """Return their ids, 32 bytes each."""
    return frozenset(one.request.id for one in open_requests(chain, tasks))
