"""An agent beside its ledger: decided once, recorded first, made again from the ledger alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from blockchain.canonical import canonical_float
from blockchain.private.agent_records import AgentDecision, AgentReward
from blockchain.private.drafts import Draft
from blockchain.private.ledger import Ledger
from client_app.agent import own_agent
from client_app.agent.action_space import ACTIONS, STATE_SHAPE, ActionSpace
from client_app.agent.agent_file import AgentError, AgentMismatchError, load_agent
from client_app.agent.agent_start import AgentStart
from client_app.agent.double_q import Parameters
from client_app.agent.own_agent import AGENT_FILE, OwnAgent, agent_records, read_records
from client_app.agent.replay import Brought, replayed
from client_app.agent.situation import Outcome, Situation
from strategies.effort import Effort
from tests.ledger_cases import OPERATOR, found_ledger

SPACE = ActionSpace(Effort("steps", (50, 75, 100)))
OTHER_SPACE = ActionSpace(Effort("rank", (25, 50, 100)))
PRICE = 10**10
SHAPE = (2, *STATE_SHAPE, len(ACTIONS))
#: Explores half of the time, so that every action comes up.
START = AgentStart(
    Parameters(exploration_start=0.5, exploration_end=0.5),
    np.full(SHAPE, 1.0),
    np.zeros(SHAPE, dtype=np.int64),
    b"\x05" * 32,
)


def task(number: int) -> bytes:
    return bytes([number]) * 32


def situation(number: int, spent: int = 0, earned: int = 0) -> Situation:
    return Situation(
        round=number,
        rounds=4,
        budget=20_000,
        spent=spent,
        outcomes=[Outcome(earned, 10**14)],
        last_action=number % 4,
        costs=(0, 1000, 2000, 4000),
    )


def opened(folder: Path, ledger: Ledger) -> OwnAgent:
    return OwnAgent(folder, ledger, SPACE, START)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(found_ledger(tmp_path / "ledger"), OPERATOR) as ledger:
        yield ledger


def summary(agent):
    """All that an agent is, comparable."""
    return (
        agent.learner.tables.tobytes(),
        agent.learner.visits.tobytes(),
        agent.learner.step,
        json.dumps(agent.learner.random.bit_generator.state, sort_keys=True),
        agent.open,
        agent.founded,
        agent.seed,
    )


def from_ledger(ledger):
    """The agent that its ledger alone makes."""
    records = read_records(ledger, agent_records(ledger))
    return replayed(records, SPACE, ledger.history.ledger.hex())


#: Decide (spent, earned, learn), bring (wei, failed), or be cut short and opened again.
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("decide"),
            st.integers(0, 20_000),
            st.integers(0, 4 * 10**14),
            st.booleans(),
        ),
        st.tuples(st.just("bring"), st.integers(0, 10**14), st.booleans()),
        st.tuples(st.sampled_from(["open again", "lose the file", "an older file"])),
    ),
    min_size=1,
    max_size=12,
)


@given(steps=steps)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_however_often_it_is_cut_short_it_goes_on_bit_for_bit_and_is_what_its_ledger_makes(
    steps, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("agents")
    with (
        Ledger(found_ledger(folder / "a"), OPERATOR) as one,
        Ledger(found_ledger(folder / "b"), OPERATOR) as other,
    ):
        whole, cut = opened(folder / "whole", one), opened(folder / "cut", other)
        path, number = folder / "cut" / AGENT_FILE, 0
        older = None
        for what, *values in steps:
            match what:
                case "decide":
                    spent, earned, learns = values
                    number += 1
                    case_ = situation(1 + number % 4, spent, earned)
                    mode = "learn" if learns else "evaluate"
                    for agent in (whole, cut):
                        agent.decide(task(number), case_, price=PRICE, mode=mode)
                case "bring":
                    wei, failed = values
                    for agent in (whole, cut):
                        agent.settle(lambda _, wei=wei, failed=failed: Brought(wei, failed))
                case "open again":
                    older = path.read_bytes() if path.exists() else None
                    cut = opened(folder / "cut", other)
                case "lose the file":
                    path.unlink(missing_ok=True)
                    cut = opened(folder / "cut", other)
                case "an older file":
                    if older is not None:
                        path.write_bytes(older)
                    cut = opened(folder / "cut", other)
        assert summary(cut.state) == summary(whole.state)
        made = from_ledger(other)
        if number:
            assert summary(made) == summary(whole.state)
        else:
            assert made is None


def test_a_decision_is_on_record_before_the_agents_file_knows_of_it(ledger, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    agent = opened(tmp_path, ledger)
    agent.decide(task(1), situation(1), price=PRICE, mode="learn")
    with monkeypatch.context() as patched:
        patched.setattr(own_agent, "save_agent", killed)
        with pytest.raises(KeyboardInterrupt):
            agent.decide(task(1), situation(2), price=PRICE, mode="learn")
        decided = agent.state.open[-1]
        with pytest.raises(KeyboardInterrupt):
            agent.settle(lambda _: Brought(10**13, failed=False))
        rewarded = summary(agent.state)
    again = opened(tmp_path, ledger)
    assert summary(again.state) == rewarded
    assert again.decide(task(1), situation(2), price=PRICE, mode="learn") == decided
    assert len(ledger.leaves(AgentDecision.record_type)) == 2


def test_asked_again_it_says_the_same_and_writes_nothing(ledger, tmp_path):
    agent = opened(tmp_path, ledger)
    first = agent.decide(task(1), situation(1), price=PRICE, mode="learn")
    before, size = summary(agent.state), ledger.history.size
    again = agent.decide(task(1), situation(1, spent=9), price=2 * PRICE, mode="learn")
    assert again == first
    assert (summary(agent.state), ledger.history.size) == (before, size)


def test_a_record_holds_what_the_decision_was_made_from_and_what_it_brought(ledger, tmp_path):
    agent = opened(tmp_path, ledger)
    decisions = [
        agent.decide(task(1), situation(number), price=PRICE, mode="learn")
        for number in (1, 2, 3, 4)
    ]
    numbers = agent.settle(lambda _: Brought(5 * 10**12, failed=True))
    assert len(numbers) == len(decisions)
    records = dict(read_records(ledger, agent_records(ledger)))
    for decision in decisions:
        payload = records[decision.record]
        assert payload.state == situation(payload.round).state()
        assert payload.permitted == situation(payload.round).permitted()
        assert payload.action == decision.action
        assert sum(map(float.fromhex, payload.probabilities)) == pytest.approx(1)
        assert float.fromhex(payload.probabilities[payload.action]) > 0
        assert (payload.founding is None) == (decision is not decisions[0])
    for number, decision in zip(numbers, decisions, strict=True):
        reward, cost = records[number], decision.costs[decision.action]
        assert reward.decision == decision.record
        assert reward.cost == cost
        paid, penalty = (5 * 10**12, 0.25) if decision.action else (0, 0.0)
        expected = (paid - cost * PRICE) / (4000 * PRICE) - penalty
        assert float.fromhex(reward.reward) == expected


def test_a_decision_waits_until_its_successor_and_its_money_are_there(ledger, tmp_path):
    agent = opened(tmp_path, ledger)
    first = agent.decide(task(1), situation(1), price=PRICE, mode="learn")
    assert agent.settle(lambda _: Brought(1, failed=False)) == []
    agent.decide(task(1), situation(2), price=PRICE, mode="learn")
    if first.action:
        assert agent.settle(lambda _: None) == []
    assert len(agent.settle(lambda _: Brought(1, failed=False))) == 1
    last = agent.decide(task(1), situation(4), price=PRICE, mode="learn")
    agent.settle(lambda _: Brought(1, failed=False))
    assert last.last
    assert agent.state.open == []


def test_evaluating_neither_learns_nor_draws_and_is_on_record_with_what_it_brought(
    ledger, tmp_path
):
    agent = opened(tmp_path, ledger)
    for number in (1, 4):
        agent.decide(task(1), situation(number), price=PRICE, mode="learn")
    agent.settle(lambda _: Brought(10**14, failed=False))
    learner = summary(agent.state)[:4]
    for number in (1, 2, 3):
        decision = agent.decide(task(2), situation(number), price=PRICE, mode="evaluate")
        best = agent.state.learner.best(decision.state, situation(number).permitted())
        assert decision.action == best.action
    assert len(agent.settle(lambda _: Brought(10**14, failed=False))) == 3
    assert summary(agent.state)[:4] == learner
    again = opened(tmp_path, ledger)
    assert summary(again.state) == summary(agent.state) == summary(from_ledger(ledger))


def test_an_agent_of_other_actions_is_refused_and_what_differs_is_named(ledger, tmp_path):
    opened(tmp_path, ledger).decide(task(1), situation(1), price=PRICE, mode="learn")
    content = (tmp_path / AGENT_FILE).read_bytes()
    with pytest.raises(AgentMismatchError, match="effort 'steps', expected 'rank'") as caught:
        OwnAgent(tmp_path, ledger, OTHER_SPACE, START)
    assert "foedus agent reset" in str(caught.value)
    assert (tmp_path / AGENT_FILE).read_bytes() == content
    (tmp_path / AGENT_FILE).unlink()
    with pytest.raises(AgentMismatchError, match="foedus agent reset"):
        OwnAgent(tmp_path, ledger, OTHER_SPACE, START)


def test_a_new_agent_of_other_actions_replaces_one_and_both_stay_in_the_ledger(ledger, tmp_path):
    opened(tmp_path, ledger).decide(task(1), situation(1), price=PRICE, mode="learn")
    own_agent.begin_anew(tmp_path, ledger, OTHER_SPACE, START)
    agent = OwnAgent(tmp_path, ledger, OTHER_SPACE, START)
    assert agent.state.open == []
    for number in (1, 4):
        agent.decide(task(2), situation(number), price=PRICE, mode="learn")
    agent.settle(lambda _: Brought(10**13, failed=False))
    records = read_records(ledger, agent_records(ledger))
    made = replayed(records, OTHER_SPACE, ledger.history.ledger.hex())
    assert summary(made) == summary(agent.state)
    (tmp_path / AGENT_FILE).unlink()
    assert summary(OwnAgent(tmp_path, ledger, OTHER_SPACE, START).state) == summary(agent.state)


def test_an_organization_without_records_stays_away_and_that_costs_and_brings_nothing(
    ledger, tmp_path
):
    agent = opened(tmp_path, ledger)
    empty = replace(situation(4), costs=(0, 0, 0, 0))
    decision = agent.decide(task(1), empty, price=PRICE, mode="learn")
    assert decision.action == 0
    [number] = agent.settle(lambda _: None)
    [(_, reward)] = read_records(ledger, [number])
    assert float.fromhex(reward.reward) == 0.0


def test_whatever_is_wrong_with_the_file_is_said_in_one_line(ledger, tmp_path):
    opened(tmp_path, ledger).decide(task(1), situation(1), price=PRICE, mode="learn")
    path = tmp_path / AGENT_FILE
    valid = path.read_bytes()
    arrays, metadata = load_file(path), read_metadata(path)
    tables = arrays["tables"]

    def with_tables(changed):
        return {**arrays, "tables": changed}

    faults = {
        "empty": b"",
        "cut": valid[:-9],
        "no safetensors": b"{}" * 100,
        "no metadata": (arrays, {}),
        "no tables": ({"visits": arrays["visits"]}, metadata),
        "not finite": (with_tables(np.full_like(tables, np.nan)), metadata),
        "another shape": (with_tables(tables[..., :3].copy()), metadata),
        "another type": (with_tables(tables.astype(np.float32)), metadata),
        "visits below 0": ({**arrays, "visits": arrays["visits"] - 1}, metadata),
        "no JSON": (arrays, {"foedus-agent": "["}),
        "nested without end": (arrays, {"foedus-agent": "[" * 9000}),
    }
    document = json.loads(metadata["foedus-agent"])
    changes = {
        "version": 2,
        "step": -1,
        "position": 1.5,
        "random": {},
        "parameters": {"discount": canonical_float(1.5)},
        "open": [{}],
    }
    for key, value in changes.items():
        changed = json.dumps({**document, key: value})
        faults[key] = (arrays, {"foedus-agent": changed})
    for name, fault in faults.items():
        if isinstance(fault, bytes):
            path.write_bytes(fault)
        else:
            save_file(fault[0], path, metadata=fault[1])
        with pytest.raises(AgentError) as caught:
            opened(tmp_path, ledger)
        said = str(caught.value)
        assert len(said.splitlines()) == 1, name
        assert str(path) in said, name
    path.write_bytes(valid)
    opened(tmp_path, ledger)


def read_metadata(path):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return file.metadata()


def test_the_agent_of_another_ledger_or_of_a_longer_one_is_refused(ledger, tmp_path):
    opened(tmp_path, ledger).decide(task(1), situation(1), price=PRICE, mode="learn")
    saved = load_agent(tmp_path / AGENT_FILE, SPACE)
    own_agent.save_agent(tmp_path / AGENT_FILE, replace(saved, position=10**6), SPACE)
    with pytest.raises(AgentError, match="one of the two was put back"):
        opened(tmp_path, ledger)
    own_agent.save_agent(tmp_path / AGENT_FILE, replace(saved, ledger="ab" * 32), SPACE)
    with pytest.raises(AgentError, match="the agent of ledger 0xabab"):
        opened(tmp_path, ledger)


@pytest.mark.parametrize(
    "change",
    [
        {"action": None},
        {"tables": "ab" * 32},
        {"probabilities": None},
        {"mode": "evaluate"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_decision_that_the_agent_would_not_have_made_is_found(change, ledger, tmp_path):
    agent = opened(tmp_path, ledger)
    agent.decide(task(1), situation(1), price=PRICE, mode="learn")
    [(_, genuine)] = read_records(ledger, agent_records(ledger))
    # What it would decide next, by a copy that is thrown away.
    state, permitted = situation(2).state(), situation(2).permitted()
    tables = own_agent.replay.tables_hash(agent.state.learner).hex()
    choice = agent.state.learner.choose(state, permitted)
    document = {
        **genuine.model_dump(),
        "round": 2,
        "state": state,
        "permitted": permitted,
        "action": choice.action,
        "probabilities": own_agent.replay.written(choice),
        "tables": tables,
        "founding": None,
    }
    if change == {"action": None}:
        change = {"action": (choice.action + 1) % 4}
    if change == {"probabilities": None}:
        change = {"probabilities": tuple(canonical_float(float(n == 1)) for n in range(4))}
    ledger.append(Draft(payload=AgentDecision(**{**document, **change})))
    with pytest.raises(AgentError, match="record"):
        opened(tmp_path, ledger)
    with pytest.raises(AgentError, match="record"):
        from_ledger(ledger)


def test_a_reward_that_is_not_what_was_paid_less_the_cost_is_found(ledger, tmp_path):
    agent = opened(tmp_path, ledger)
    decision = agent.decide(task(1), situation(4), price=PRICE, mode="learn")
    reward = AgentReward(
        decision=decision.record,
        paid="7",
        cost=decision.costs[decision.action],
        failed=False,
        reward=canonical_float(0.5),
    )
    ledger.append(Draft(payload=reward))
    with pytest.raises(AgentError, match="its reward is not what was paid less the cost"):
        opened(tmp_path, ledger)
