"""An order to unlearn: organizations hold all of it against the chain before they obey."""

from types import SimpleNamespace

import pytest

from blockchain.merkle import organization_id
from blockchain.unlearning_messages import RequestState, UnlearningScope
from client_app.own_record import OwnRecord
from client_app.replay_order import check_order
from client_app.request import CoordinatorError
from strategies.home import organization_folder
from strategies.lineage import Lineage
from strategies.replay_order import ReplayOrder
from strategies.run_parts import agreed_terms
from strategies.settings import RunSettings
from strategies.terms import terms_hash
from tests.tiny_model import build_tiny_model
from tests.whole_federation import federation_settings, write_data

TASK, OTHER, LATER = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
RECORDS, WITHDRAWAL = bytes([4]) * 32, bytes([5]) * 32


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """The settings of the run that is to be replaced."""
    folder = tmp_path_factory.mktemp("order")
    return federation_settings(
        folder / "home", build_tiny_model(folder / "tiny"), write_data(folder / "data")
    )


class Chain:
    """What the public chain knows of one task of three rounds, and of two requests."""

    def __init__(self, origin):
        self.terms = terms_hash(agreed_terms(origin, "treaty"))
        self.requests = {
            RECORDS: request(TASK, "east", UnlearningScope.RECORDS),
            WITHDRAWAL: request(TASK, "south", UnlearningScope.ORGANIZATION),
        }
        self.unlearning = SimpleNamespace(request_of=self.requests.get)

    def task(self, task):
        assert task == TASK
        return SimpleNamespace(terms=self.terms, last_round=3)


def request(task, organization, scope, state=RequestState.OPEN):
    asked = SimpleNamespace(task=task, organization=organization_id(organization), scope=scope)
    return SimpleNamespace(state=state, request=asked)


def ordered(origin, **changes):
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    settings = RunSettings.from_run_config({**origin.to_run_config(), **named})
    return ReplayOrder.of(settings, origin, "treaty")


def listed(*requests):
    return ",".join(f"0x{one.hex()}" for one in requests)


#: A good order of each kind.
REPLAY = {"lineage": f"0x{TASK.hex()}:1", "requests": listed(RECORDS)}
LEFT = {**REPLAY, "requests": listed(WITHDRAWAL), "organizations": "east,north"}
FAST = {
    "lineage": f"0x{TASK.hex()}:3",
    "requests": listed(RECORDS),
    "unlearners": "east",
    "rounds": 4,
}


@pytest.mark.parametrize("good", [REPLAY, LEFT, FAST], ids=["replay", "withdrawal", "fast"])
def test_a_good_order_is_obeyed(origin, good):
    check_order(Chain(origin), ordered(origin, **good), origin, "north")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**REPLAY, "seed": 43}, "seed was 42, the order says 43"),
        ({**REPLAY, "learning_rate": 0.01}, "learning-rate was 0.001"),
        ({**REPLAY, "forgetting_epochs": 3}, "forgetting-epochs was 10"),
        ({**REPLAY, "rounds": 4}, "4 rounds, expected 3"),
        ({**REPLAY, "organizations": "east,north"}, "south is left out, and did not ask"),
        ({**LEFT, "organizations": "east,north,south"}, "south takes part, and asked"),
        ({**REPLAY, "requests": listed(OTHER)}, "is unknown, expected open"),
        ({**FAST, "rounds": 5}, "5 rounds, expected 4"),
        ({**FAST, "unlearners": "north"}, "north is to unlearn, and asked for nothing"),
        ({**FAST, "lineage": f"0x{TASK.hex()}:1"}, "the order keeps 1 rounds, the run to go on"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_an_order_that_goes_beyond_what_was_asked_is_refused(origin, changes, said):
    with pytest.raises(CoordinatorError, match=said):
        check_order(Chain(origin), ordered(origin, **changes), origin, "north")


def test_an_order_of_other_terms_than_those_on_chain_is_refused(origin):
    chain = Chain(origin)
    chain.terms = bytes(32)
    with pytest.raises(CoordinatorError, match="has terms 0x0000"):
        check_order(chain, ordered(origin, **REPLAY), origin, "north")


@pytest.mark.parametrize("state", [RequestState.REJECTED, RequestState.CANCELLED])
def test_a_request_that_came_to_nothing_is_no_reason(origin, state):
    chain = Chain(origin)
    chain.requests[RECORDS] = request(TASK, "east", UnlearningScope.RECORDS, state)
    with pytest.raises(CoordinatorError, match=f"is {state.name.lower()}, expected open"):
        check_order(chain, ordered(origin, **REPLAY), origin, "north")


def test_a_request_about_another_run_is_no_reason_and_one_about_a_run_that_follows_is(origin):
    chain = Chain(origin)
    chain.requests[RECORDS] = request(LATER, "east", UnlearningScope.RECORDS)
    with pytest.raises(CoordinatorError, match="none of the runs that the order replaces"):
        check_order(chain, ordered(origin, **REPLAY), origin, "north")
    record = OwnRecord(organization_folder(origin.home_path, "north"), LATER)
    record.goes_on_from(Lineage.parse(f"0x{TASK.hex()}:2"))
    check_order(chain, ordered(origin, **REPLAY), origin, "north")
