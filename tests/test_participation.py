"""An organization that decides: declining is cheap, effort is obeyed, the ledger has it all."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import client_app.organization
import client_app.participation
from blockchain.canonical import hash_arrays
from blockchain.model_update import DECLINED
from blockchain.private.agent_records import AgentDecision
from blockchain.typed_data import check_signer
from client_app.agent.action_space import ActionSpace
from client_app.agent.agent_start import AgentStart, agent_start
from client_app.agent.own_agent import begin_anew
from client_app.ledger_opening import open_ledger, opened
from client_app.own_record import OwnRecord
from llm.factors import B_SUFFIX
from strategies import protocol
from strategies.home import organization_folder
from strategies.organization_key import signing_account
from tests.organization_cases import Coordinator
from tests.signing_cases import account_of

pytestmark = pytest.mark.real
pytest_plugins = ["tests.chain_fixtures", "tests.organization_fixtures"]

SKIP, LOW, MID, HIGH = range(4)


@pytest.fixture
def choosing(monkeypatch):
    """Let a new agent find one action best, everywhere."""

    def choose(action):
        def start(space, *, seed, organization):
            genuine = agent_start(space, seed=seed, organization=organization)
            tables = np.zeros_like(genuine.tables)
            tables[..., action] = 9.0
            parameters = replace(genuine.parameters, exploration_start=0, exploration_end=0)
            return AgentStart(parameters, tables, np.zeros_like(genuine.visits), genuine.seed)

        monkeypatch.setattr(client_app.participation, "agent_start", start)

    return choose


def opened_round(settings, chain, **changes):
    """A coordinator with an open round, under settings that let the agent decide."""
    # Evaluating: each test begins where the last one's agent would have gone on.
    deciding = settings.model_copy(update={"participation": "evaluate", **changes})
    coordinator = Coordinator(deciding, chain)
    chain.open_round(coordinator.task, 1, hash_arrays(coordinator.adapter))
    return coordinator


def payloads(settings, *types):
    """What the private ledger holds of some types."""
    account = signing_account(settings.home_path, "shop")
    with opened(settings.home_path, "shop", account) as ledger:
        numbers = [number for one in types for number in ledger.payloads_left(one)]
        return ledger.read_all(numbers, "test")


def decisions(settings, task):
    """The decisions in a task that the private ledger holds."""
    found = [opened.payload for opened in payloads(settings, AgentDecision.record_type)]
    return [payload for payload in found if payload.task == task.hex()]


def anew(coordinator, choosing, action):
    """Take part as an agent that finds an action best."""
    choosing(action)
    settings = coordinator.settings
    space, account = ActionSpace(settings.effort), signing_account(settings.home_path, "shop")
    start = client_app.participation.agent_start(space, seed=1, organization="shop")
    folder = organization_folder(settings.home_path, "shop")
    with open_ledger(settings.home_path, "shop", account, coordinator.chain) as ledger:
        begin_anew(folder, ledger, space, start)
    return coordinator.organization().train(coordinator.message())


def test_declining_loads_no_model_and_is_signed_over_no_records(
    settings, chain, choosing, monkeypatch
):
    def refuse(*_):
        raise AssertionError("a model was loaded")

    coordinator = opened_round(settings, chain)
    monkeypatch.setattr(client_app.organization, "load_base_model", refuse)
    reply = anew(coordinator, choosing, SKIP)
    assert protocol.UPDATE not in reply
    assert protocol.OPENING not in reply
    header = reply[protocol.HEADER]
    assert (header["num-examples"], header["commitment"]) == (0, DECLINED)
    assert reply[protocol.METRICS]["tokens"] == 0
    signed = (
        OwnRecord(organization_folder(settings.home_path, "shop"), coordinator.task)
        .reply_in(1)
        .signed
    )
    assert signed.declines
    digest = signed.update.digest(chain.domain)
    check_signer(digest, header["signature"], account_of("shop").address)
    [decision] = decisions(coordinator.settings, coordinator.task)
    assert decision.actions[decision.action] == "skip"


def test_a_declined_round_is_declined_with_the_same_bytes_when_asked_again(
    settings, chain, choosing
):
    coordinator = opened_round(settings, chain)
    first = anew(coordinator, choosing, SKIP)
    choosing(HIGH)
    again = coordinator.organization().train(coordinator.message())
    assert first[protocol.HEADER] == again[protocol.HEADER]
    assert len(decisions(coordinator.settings, coordinator.task)) == 1


@pytest.mark.parametrize(("action", "records"), [(LOW, 8), (MID, 12), (HIGH, 16)])
def test_effort_by_steps_trains_on_that_share_and_costs_what_was_foreseen(
    settings, chain, choosing, action, records
):
    coordinator = opened_round(settings, chain)
    reply = anew(coordinator, choosing, action)
    [decision] = decisions(coordinator.settings, coordinator.task)
    metrics = reply[protocol.METRICS]
    assert decision.action == action
    assert reply[protocol.HEADER]["num-examples"] == records
    assert metrics["tokens"] == decision.costs[action]
    assert metrics["steps"] == -(-records // settings.batch_size)
    assert metrics["effort"] == (50, 75, 100)[action - 1]


def test_less_effort_trains_on_the_first_of_the_same_draw(settings, chain, choosing):
    drawn = []
    for action in (LOW, MID, HIGH):
        coordinator = opened_round(settings, chain)
        anew(coordinator, choosing, action)
        [trained] = [
            opened.payload
            for opened in payloads(settings, "training-run")
            if opened.payload.task == coordinator.task.hex()
        ]
        drawn.append(set(trained.drawn))
    assert [len(one) for one in drawn] == [8, 12, 16]
    assert drawn[0] < drawn[1] < drawn[2]


@pytest.mark.parametrize(("action", "rank"), [(LOW, 2), (MID, 3), (HIGH, 4)])
def test_effort_by_rank_trains_that_rank_on_all_records(settings, chain, choosing, action, rank):
    coordinator = opened_round(settings, chain, effort_by="rank")
    reply = anew(coordinator, choosing, action)
    assert reply[protocol.HEADER]["num-examples"] == 16
    shapes = {name: array.shape for name, array in reply[protocol.UPDATE].items()}
    assert {shape[1] for name, shape in shapes.items() if name.endswith(B_SUFFIX)} == {rank}


def test_what_the_budget_does_not_allow_is_not_done(settings, chain, choosing):
    free = opened_round(settings, chain)
    anew(free, choosing, HIGH)
    [decision] = decisions(free.settings, free.task)
    tight = opened_round(settings, chain, token_budget=decision.costs[MID])
    anew(tight, choosing, HIGH)
    [within] = decisions(tight.settings, tight.task)
    assert within.permitted == (True, True, True, False)
    assert within.action != HIGH
    broke = opened_round(settings, chain, token_budget=1)
    reply = anew(broke, choosing, HIGH)
    assert reply[protocol.HEADER]["commitment"] == DECLINED


def test_taking_part_always_asks_no_agent(settings, chain):
    coordinator = opened_round(settings, chain, participation="always")
    reply = coordinator.organization().train(coordinator.message())
    assert reply[protocol.METRICS]["effort"] == 100
    assert decisions(coordinator.settings, coordinator.task) == []


def test_an_agent_of_other_actions_ends_the_round_before_anything_is_done(
    settings, chain, choosing
):
    anew(opened_round(settings, chain), choosing, HIGH)
    other = opened_round(settings, chain, effort_levels="10,20,30")
    with pytest.raises(Exception, match="percents") as caught:
        other.organization().train(other.message())
    assert type(caught.value).__name__ == "AgentMismatchError"
    assert decisions(other.settings, other.task) == []
    record = OwnRecord(organization_folder(settings.home_path, "shop"), other.task)
    assert record.reply_in(1) is None


def test_the_agents_own_files_load_no_torch():
    code = "import sys, client_app.agent.own_agent; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
