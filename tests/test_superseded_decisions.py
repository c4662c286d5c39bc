"""An agent put back before a decision: what it decides then is as if the rest had never been."""

import json

import pytest

from blockchain.private.agent_records import AgentDecision
from blockchain.private.ledger import Ledger
from client_app.agent.agent_file import AgentError
from client_app.agent.own_agent import AGENT_FILE, agent_records, read_records
from client_app.agent.replay import Brought, effective, put_back
from client_app.agent.superseded import first_superseded, learned_before
from strategies.lineage import Lineage, Span
from tests.ledger_cases import OPERATOR, found_ledger
from tests.test_own_agent import PRICE, SPACE, from_ledger, opened, situation, summary, task

FIRST, AGAIN, OTHER = task(1), task(2), task(3)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(found_ledger(tmp_path / "ledger"), OPERATOR) as ledger:
        yield ledger


def records(ledger):
    return read_records(ledger, agent_records(ledger))


def decide(agent, of_task, number, **more):
    return agent.decide(
        of_task, more.pop("seen", situation(number)), price=PRICE, mode="learn", **more
    )


def bring(agent, wei):
    """Let everything that can be learned from by now bring so much."""
    return agent.settle(lambda _: Brought(wei, failed=False))


def state_of(agent):
    """All that a decision depends on: not in which record, or of which task, earlier ones stand."""
    learner = agent.state.learner
    waiting = [
        (one.round, one.state, one.action, one.costs, one.following) for one in agent.state.open
    ]
    random = json.dumps(learner.random.bit_generator.state, sort_keys=True)
    return learner.tables.tobytes(), learner.visits.tobytes(), learner.step, random, waiting


@pytest.mark.parametrize("first_again", [1, 2, 3, 4])
def test_what_was_decided_since_is_as_if_it_had_never_been(ledger, tmp_path, first_again):
    agent = opened(tmp_path / "agent", ledger)
    for number in range(1, 5):
        decide(agent, FIRST, number, seen=situation(number, earned=number * 10**14))
        bring(agent, 7 * 10**13)
    # A later task of its own, which the first one's decisions have taught the agent for.
    decide(agent, OTHER, 1)

    kept = Lineage((Span(FIRST, first_again - 1),))
    before = first_superseded(records(ledger), kept)
    for number in range(first_again, 5):
        seen = situation(number, earned=9 * 10**13)
        decide(agent, AGAIN, number, seen=seen, put_back=before)
        bring(agent, 5 * 10**13)
        before = first_superseded(records(ledger), kept)
        assert before is None

    with Ledger(found_ledger(tmp_path / "other"), OPERATOR) as other:
        never = opened(tmp_path / "never", other)
        for number in range(1, 5):
            again = number >= first_again
            earned = 9 * 10**13 if again else number * 10**14
            decide(never, FIRST, number, seen=situation(number, earned=earned))
            bring(never, (5 if again else 7) * 10**13)
        assert state_of(agent) == state_of(never)

    # Its ledger alone makes it again, file or no file.
    assert summary(from_ledger(ledger)) == summary(agent.state)
    (tmp_path / "agent" / AGENT_FILE).unlink()
    assert summary(opened(tmp_path / "agent", ledger).state) == summary(agent.state)


def test_a_decision_asked_for_again_is_not_decided_twice(ledger, tmp_path):
    agent = opened(tmp_path / "agent", ledger)
    decide(agent, FIRST, 1)
    decide(agent, FIRST, 2)
    kept = Lineage((Span(FIRST, 1),))
    once = decide(agent, AGAIN, 2, put_back=first_superseded(records(ledger), kept))
    size = ledger.history.size
    again = decide(agent, AGAIN, 2, put_back=first_superseded(records(ledger), kept))
    assert (once, ledger.history.size) == (again, size)


def test_an_agent_put_back_twice_keeps_what_stood_both_times(ledger, tmp_path):
    agent = opened(tmp_path / "agent", ledger)
    for number in (1, 2, 3):
        decide(agent, FIRST, number)
    after_two = Lineage((Span(FIRST, 2),))
    decide(agent, AGAIN, 3, put_back=first_superseded(records(ledger), after_two))
    after_one = Lineage((Span(FIRST, 1),))
    for number in (2, 3):
        decide(agent, OTHER, number, put_back=first_superseded(records(ledger), after_one))
    counted = [
        (payload.task, payload.round)
        for _, payload in effective(records(ledger))
        if isinstance(payload, AgentDecision)
    ]
    assert counted == [(FIRST.hex(), 1), (OTHER.hex(), 2), (OTHER.hex(), 3)]
    assert summary(from_ledger(ledger)) == summary(agent.state)


def test_it_is_put_back_before_decisions_that_count_alone(ledger, tmp_path):
    agent = opened(tmp_path / "agent", ledger)
    decide(agent, FIRST, 1)
    name = ledger.history.ledger.hex()
    for number in (0, 2, 999):
        with pytest.raises(AgentError, match="no decision that the agent could be put back before"):
            put_back([], number, SPACE, name)
    assert first_superseded(records(ledger), Lineage()) is None
    assert first_superseded(records(ledger), Lineage((Span(OTHER, 0),))) is None
    assert first_superseded(records(ledger), Lineage((Span(FIRST, 1),))) is None


def test_a_reward_is_known_before_the_rounds_that_it_was_known_before_in_the_first_run(
    ledger, tmp_path
):
    agent = opened(tmp_path / "agent", ledger)
    decide(agent, FIRST, 1)
    two = decide(agent, FIRST, 2)
    agent.settle(lambda one: Brought(10**13, failed=False) if one.round == 1 else None)
    three = decide(agent, FIRST, 3)
    decide(agent, FIRST, 4)
    agent.settle(lambda one: Brought(10**13, failed=False))

    kept, everything = Lineage((Span(FIRST, 1),)), records(ledger)
    once_more = [
        decide(agent, AGAIN, 2, put_back=first_superseded(everything, kept)),
        decide(agent, AGAIN, 3),
    ]
    # Round 1's reward came before round 3 was decided, those of rounds 2 and 3 after round 4 was.
    for number, known in ((2, []), (3, [1]), (4, [1])):
        before = learned_before(everything, kept, AGAIN, number)
        waiting = [agent.state.open[0], *once_more]
        assert [one.round for one in waiting if before(one)] == known
    # Beyond the first run the record says nothing.
    assert learned_before(everything, kept, AGAIN, 5) is None
    assert {two.round, three.round} == {2, 3}
