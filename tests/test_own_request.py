"""How a request of one's own stands, at any time and whatever became of it, and in which words."""

import pytest

from blockchain.unlearning_messages import (
    Completion,
    Guarantee,
    Request,
    RequestState,
    UnlearningScope,
)
from blockchain.unlearning_requests import StoredRequest
from client_app.own_request import OwnRequest, Standing
from tests.chain_samples import digest

DAY = 86_400
DEADLINE = 1_000_000


def standing(state, *, closed_at=0, completion=None, reason=0):
    """A request as the chain might have it."""
    scope = UnlearningScope.RECORDS
    request = Request(digest("task"), digest("east"), digest("subject"), scope, DEADLINE)
    stored = None
    if state is not None:
        stored = StoredRequest(request, state, 1, closed_at, completion, reason, bytes(32))
    return OwnRequest(request, "exact", (1,), bytes(32), 3, 1, stored)


def completed(guarantee, closed_at):
    first = 0 if guarantee is Guarantee.NOTHING_TO_FORGET else 1
    done = Completion(digest("evidence"), digest("adapter"), first, guarantee)
    return standing(RequestState.COMPLETED, closed_at=closed_at, completion=done)


@pytest.mark.parametrize(
    ("own", "now", "expected", "said"),
    [
        (None, DEADLINE - 1, Standing.WAITING, "waiting to be brought, 1 second left"),
        (None, DEADLINE, Standing.EXPIRED, "expired before it was brought"),
        (RequestState.OPEN, DEADLINE - 7 * DAY + 3600, Standing.OPEN, "open, 6 days 23 hours left"),
        (RequestState.OPEN, DEADLINE - DAY - 5, Standing.OPEN, "open, 1 day left"),
        (RequestState.OPEN, DEADLINE, Standing.OPEN, "open, 0 seconds left"),
        (RequestState.OPEN, DEADLINE + 61, Standing.OVERDUE, "overdue by 1 minute 1 second"),
        (RequestState.CANCELLED, DEADLINE + 61, Standing.CANCELLED, "cancelled"),
    ],
)
def test_how_a_request_stands_follows_from_the_time_until_it_has_ended(own, now, expected, said):
    own = standing(own)
    assert own.standing(now) is expected
    assert own.standing_in_words(now) == said


def test_a_rejected_request_says_for_which_reason():
    own = standing(RequestState.REJECTED, closed_at=9, reason=7)
    assert own.standing(DEADLINE) is Standing.REJECTED
    assert own.standing_in_words(DEADLINE) == "rejected: reason 7"


@pytest.mark.parametrize(
    ("guarantee", "said"),
    [
        (Guarantee.EXACT_ISOLATED, "completed: exact isolation"),
        (Guarantee.EXACT_REPLAY, "completed: exact replay"),
        (Guarantee.EMPIRICAL, "completed: empirical, measured and not proven"),
        (Guarantee.NOTHING_TO_FORGET, "completed: nothing to forget"),
    ],
)
def test_a_completed_request_says_how_far_it_is_vouched_for(guarantee, said):
    assert completed(guarantee, DEADLINE).standing_in_words(5) == said
    assert completed(guarantee, DEADLINE + 1).standing_in_words(5) == f"{said}, late"
