"""Requests to forget on a real chain: what is asked stands there until one of three ends, for good.

Every refused transaction is made of one that is taken, and leaves the request as it was.
"""

from dataclasses import replace

import pytest

from blockchain.deployment import connect_deployed
from blockchain.errors import ChainError
from blockchain.membership import Change, ChangeKind, majority
from blockchain.unlearning_messages import Cancellation, Guarantee, RequestState
from blockchain.unlearning_requests import StoredRequest
from tests.chain_samples import GENESIS, changed, digest, fresh_task
from tests.signed_statements import EAST, NORTH, SOUTH, WEST
from tests.signing_cases import DEADLINE, account_of
from tests.spoiled_unlearning import (
    SPOILED_CANCELLATIONS,
    SPOILED_COMPLETIONS,
    SPOILED_REQUESTS,
    asked_for,
    told,
)
from tests.unlearning_cases import (
    DONE,
    ENDS,
    NAMES,
    approved,
    block_time,
    open_request,
    refused,
    signed,
    state_of,
    wanted,
)

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]


@pytest.fixture(scope="module")
def chain(travelling):
    return travelling.chain


@pytest.fixture(scope="module")
def task(chain):
    """A task with one round, about which all tests ask."""
    task = fresh_task(chain)
    chain.open_round(task, 1, GENESIS)
    return task


@pytest.fixture(scope="module")
def open_id(chain, task):
    """A request that is to stay open: all spoiled attempts to end it are made on it."""
    id = open_request(chain, wanted(task))
    yield id
    # What the attempts were made of was good, and none of them counted.
    chain.unlearning.complete(id, DONE, approved(chain, id))


# Asking


def test_what_an_organization_asked_stands_open_for_everyone_to_read(travelling, chain, task):
    request = wanted(task)
    assert chain.unlearning.request_of(request.id) is None
    assert not chain.unlearning.is_overdue(request.id)
    # Anyone brings it, here another organization.
    receipt = travelling.sent_by("south").unlearning.ask(request, signed(chain, request))
    assert chain.unlearning.request_of(request.id) == StoredRequest(
        request=request,
        state=RequestState.OPEN,
        requested_at=block_time(chain, receipt.block_number),
        closed_at=0,
        completion=None,
        reason=0,
        details=bytes(32),
    )
    assert not chain.unlearning.is_overdue(request.id)


def test_what_is_asked_again_is_found_and_no_second_transaction_sent(travelling, chain, task):
    request = wanted(task, deadline=chain.now() + 1000)
    signature = signed(chain, request)
    assert chain.unlearning.ask(request, signature) is not None
    height = chain.height()
    assert chain.unlearning.ask(request, signature) is None
    # Whoever brings it; and the signature of something that stands is not asked for.
    assert travelling.sent_by("east").unlearning.ask(request, b"") is None
    assert chain.height() == height
    travelling.travel(2000)
    assert chain.unlearning.ask(request, signature) is None
    chain.unlearning.cancel(request.id, signed(chain, Cancellation(request.id)))
    assert chain.unlearning.ask(request, signature) is None
    assert state_of(chain, request.id) is RequestState.CANCELLED


def test_without_an_account_requests_are_read_and_not_made(travelling, chain, task):
    reader = connect_deployed(travelling.settings, travelling.folder).unlearning
    request = wanted(task)
    with pytest.raises(ChainError, match="can only read"):
        reader.ask(request, signed(chain, request))
    id = open_request(chain, request)
    assert reader.request_of(id) == chain.unlearning.request_of(id)


@pytest.mark.parametrize("name", SPOILED_REQUESTS)
def test_a_request_is_refused_with(chain, task, name):
    good = asked_for(chain, wanted(task))
    spoil, error = SPOILED_REQUESTS[name]
    spoiled = spoil(chain, good)
    with refused(chain, spoiled.request.id, error):
        chain.unlearning.ask(spoiled.request, spoiled.signature)
    assert chain.unlearning.ask(good.request, good.signature) is not None


def test_a_request_is_refused_under_another_id_than_follows_from_it(chain, task):
    # `Request` has no other id: what somebody else makes goes past it.
    request, other = wanted(task), wanted(task)
    struct = tuple({**request.values(), "id": other.id}.values())
    with refused(chain, request.id, "UnlearningWrongId") as caught:
        chain.contracts["Unlearning"].send("request", struct, signed(chain, request))
    assert caught.value.arguments == {"id": other.id, "expected": request.id}
    assert state_of(chain, request.id) is state_of(chain, other.id) is RequestState.NONE


# Completing


@pytest.mark.parametrize("guarantee", Guarantee, ids=lambda guarantee: guarantee.name)
def test_two_attestors_complete_a_request_with(chain, task, guarantee):
    first_round = 0 if guarantee is Guarantee.NOTHING_TO_FORGET else 1
    done = replace(DONE, guarantee=guarantee, first_affected_round=first_round)
    id, untouched = (open_request(chain, wanted(task)) for _ in range(2))
    before = chain.unlearning.request_of(id)
    receipt = chain.unlearning.complete(id, done, approved(chain, id, done))
    assert chain.unlearning.request_of(id) == replace(
        before,
        state=RequestState.COMPLETED,
        closed_at=block_time(chain, receipt.block_number),
        completion=done,
    )
    assert state_of(chain, untouched) is RequestState.OPEN


@pytest.mark.parametrize("name", SPOILED_COMPLETIONS)
def test_a_request_is_not_completed_by(chain, open_id, name):
    spoil, error = SPOILED_COMPLETIONS[name]
    spoiled = spoil(chain, told(chain, open_id))
    with refused(chain, open_id, error):
        chain.unlearning.complete(spoiled.id, spoiled.completion, spoiled.approvals)


# Rejecting and cancelling


def test_the_tasks_coordinator_rejects_a_request_and_says_why(travelling, chain, task):
    id = open_request(chain, wanted(task))
    before = chain.unlearning.request_of(id)
    for name in ("west", "east"):
        with refused(chain, id, "UnlearningNotCoordinator") as caught:
            travelling.sent_by(name).unlearning.reject(id, 7, digest("why"))
        assert caught.value.arguments["caller"] == account_of(name).address.lower()
    with refused(chain, id, "UnlearningZeroValue"):
        chain.unlearning.reject(id, 0, digest("why"))
    receipt = chain.unlearning.reject(id, 7, digest("why"))
    assert chain.unlearning.request_of(id) == replace(
        before,
        state=RequestState.REJECTED,
        closed_at=block_time(chain, receipt.block_number),
        reason=7,
        details=digest("why"),
    )


def test_the_organization_takes_its_request_back_whoever_brings_it(travelling, chain, task):
    id = open_request(chain, wanted(task))
    before = chain.unlearning.request_of(id)
    signature = signed(chain, Cancellation(id))
    receipt = travelling.sent_by("south").unlearning.cancel(id, signature)
    assert chain.unlearning.request_of(id) == replace(
        before,
        state=RequestState.CANCELLED,
        closed_at=block_time(chain, receipt.block_number),
    )


@pytest.mark.parametrize("name", SPOILED_CANCELLATIONS)
def test_a_request_is_not_taken_back_by(chain, open_id, name):
    request = chain.unlearning.request_of(open_id).request
    with refused(chain, open_id, "UnlearningWrongSigner"):
        chain.unlearning.cancel(open_id, SPOILED_CANCELLATIONS[name](chain, request))


@pytest.mark.parametrize("state", [RequestState.NONE, *ENDS], ids=lambda state: state.name)
def test_nothing_becomes_of_a_request_that_is(chain, task, state):
    request = wanted(task)
    if state is not RequestState.NONE:
        ENDS[state](chain, open_request(chain, request))
    for end in ENDS.values():
        with refused(chain, request.id, "UnlearningNotOpen") as caught:
            end(chain, request.id)
        assert caught.value.arguments == {"id": request.id, "state": state}
    assert state_of(chain, request.id) is state


def test_what_has_not_its_size_is_refused_before_it_is_sent(chain, open_id):
    height, requests = chain.height(), chain.unlearning
    for short in (open_id[:-1], b"", open_id.hex()):
        for act, others in (
            (requests.request_of, ()),
            (requests.is_overdue, ()),
            (requests.complete, (DONE, {})),
            (requests.reject, (7, bytes(32))),
            (requests.cancel, (b"",)),
        ):
            with pytest.raises(ValueError, match="id: expected 32 bytes"):
                act(short, *others)
    with pytest.raises(ValueError, match="task: expected 32 bytes"):
        requests.asked(b"", 1)
    with pytest.raises(ValueError, match="details: expected 32 bytes"):
        requests.reject(open_id, 7, b"why")
    for reason in (-1, 2**16, True):
        with pytest.raises(ValueError, match=r"reason: .*, expected a whole number of 16 bits"):
            requests.reject(open_id, reason, bytes(32))
    assert chain.height() == height


# Time, keys and events


def test_an_open_request_is_overdue_after_its_deadline_and_may_still_end(travelling, chain, task):
    deadline = chain.now() + 1000
    late, cancelled, patient = (
        open_request(chain, wanted(task, deadline=until))
        for until in (deadline, deadline, DEADLINE)
    )
    chain.unlearning.cancel(cancelled, signed(chain, Cancellation(cancelled)))
    assert not chain.unlearning.is_overdue(late)
    travelling.travel(2000)
    overdue = [chain.unlearning.is_overdue(id) for id in (late, cancelled, patient)]
    assert overdue == [True, False, False]
    assert state_of(chain, late) is RequestState.OPEN
    chain.unlearning.complete(late, DONE, approved(chain, late))
    assert not chain.unlearning.is_overdue(late)
    assert chain.unlearning.request_of(late).closed_at > deadline


def test_an_organization_speaks_by_its_newest_key_also_after_it_left(chain, task):
    id = open_request(chain, wanted(task, SOUTH))
    chain.members.rotate_key(SOUTH, account_of("south"), account_of("south, anew"), DEADLINE)

    def check_only_the_new_key_speaks(id: bytes) -> None:
        request, back = wanted(task, SOUTH), Cancellation(id)
        with refused(chain, request.id, "UnlearningWrongSigner") as caught:
            chain.unlearning.ask(request, signed(chain, request, "south"))
        assert caught.value.arguments["key"] == account_of("south, anew").address.lower()
        with refused(chain, id, "UnlearningWrongSigner"):
            chain.unlearning.cancel(id, signed(chain, back, "south"))
        assert chain.unlearning.ask(request, signed(chain, request, "south, anew")) is not None
        chain.unlearning.cancel(id, signed(chain, back, "south, anew"))
        assert state_of(chain, request.id) is RequestState.OPEN
        assert state_of(chain, id) is RequestState.CANCELLED

    check_only_the_new_key_speaks(id)
    [*_, newest] = chain.unlearning.asked(task, 1)
    members, left = chain.members, {"organization": SOUTH, "threshold": majority(3)}
    removal = Change(ChangeKind.REMOVE_MEMBER, members.next_nonce(), DEADLINE, **left)
    staying = {who: account_of(NAMES[who]) for who in (EAST, NORTH, WEST)}
    members.execute(removal, {who: members.approve(removal, key) for who, key in staying.items()})
    assert not members.member(SOUTH).is_member
    check_only_the_new_key_speaks(newest)


def test_requests_are_listed_by_task_in_the_order_they_were_brought_in(travelling, chain):
    one, other, silent = (fresh_task(chain) for _ in range(3))
    first = chain.task(one).opened_block
    turns = [(one, WEST), (other, WEST), (one, EAST), (one, WEST), (other, NORTH), (one, NORTH)]
    brought: dict[bytes, list[tuple[bytes, int]]] = {one: [], other: [], silent: []}
    for task, organization in turns:
        id = open_request(chain, wanted(task, organization))
        brought[task].append((id, chain.height()))
    # What becomes of a request does not take it from the list.
    chain.unlearning.reject(brought[one][1][0], 7, bytes(32))
    narrow = connect_deployed(changed(travelling.settings, event_range_blocks=2), travelling.folder)
    for task, requests in brought.items():
        ids = [id for id, _ in requests]
        assert chain.unlearning.asked(task, first) == ids
        assert narrow.unlearning.asked(task, first) == ids
    ids, (_, second_block) = [id for id, _ in brought[one]], brought[one][1]
    assert chain.unlearning.asked(one, second_block) == ids[1:]
    assert chain.unlearning.asked(one, second_block + 1) == ids[2:]
    assert chain.unlearning.asked(one, chain.height() + 1) == []
