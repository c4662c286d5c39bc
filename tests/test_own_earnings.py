"""What an organization is told of its rewards, what it believes of that, and what has arrived."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockchain.canonical import canonical_json
from blockchain.chain_records import Phase
from blockchain.errors import ChainError
from blockchain.merkle import organization_id
from client_app.own_earnings import OwnEarnings, RoundEarning
from strategies.reward_statement import (
    MOST_STATEMENTS,
    RewardStatement,
    read_statements,
    write_statements,
)
from strategies.rewards import RewardTable
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import ArchiveError

TASK = b"\x07" * 32
NAMES = ("cinema", "microblog", "newspaper", "shop")
amounts = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 10**24))


def outcome(number: int, parent: int, counted: int, earned: dict[str, int]) -> RoundOutcome:
    """A sealed round with a table of rewards, and nothing else of interest."""
    return RoundOutcome(
        round=number,
        parent_round=parent,
        rule="ffa",
        parent=bytes(32),
        adapter=bytes([number]) * 32,
        state=bytes(32),
        entries=(),
        absent={},
        rewards=RewardTable(TASK, counted, earned),
    )


@dataclass
class FakeRecord:
    phase: Phase
    record: bytes
    parent_round: int


@dataclass
class FakeRewards:
    paid: dict[bytes, int] = field(default_factory=dict)
    claims: list[tuple[Any, ...]] = field(default_factory=list)

    def claimed(self, task: bytes, organization: bytes) -> int:
        return self.paid.get(organization, 0)

    def claim(self, task, number, record, organization, amount, proof):
        self.claims.append((number, amount))
        self.paid[organization] = amount


@dataclass
class FakeChain:
    """Rounds with their phases, and a pool that pays whatever is claimed."""

    rounds_: dict[int, FakeRecord] = field(default_factory=dict)
    rewards: FakeRewards = field(default_factory=FakeRewards)

    def round(self, task: bytes, number: int) -> FakeRecord:
        return self.rounds_.get(number, FakeRecord(Phase.NONE, bytes(32), 0))

    def seal(self, one: RoundOutcome, phase: Phase = Phase.SEALED) -> None:
        self.rounds_[one.round] = FakeRecord(phase, one.seal(TASK).record, one.parent_round)


def earning(last: int) -> list[RoundOutcome]:
    """Rounds up to one, each of which earned the shop ten wei."""
    return [
        outcome(n, n - 1, n - 1, {"shop": 10 * (n - 1)} if n > 1 else {})
        for n in range(1, last + 1)
    ]


def statement(one: RoundOutcome, name: str = "shop") -> RewardStatement:
    return RewardStatement.of(one, one.seal(TASK), name)


def told(tmp_path, chain: FakeChain, outcomes: list[RoundOutcome], name: str = "shop"):
    earnings = OwnEarnings(tmp_path, TASK, name, chain)
    assert earnings.take([statement(one, name) for one in outcomes]) == []
    return earnings


@given(earned=amounts, name=st.sampled_from(NAMES))
def test_what_a_sealed_round_says_of_anybody_holds_against_the_chain_and_travels_unchanged(
    earned, name
):
    sealed, chain = outcome(3, 2, 2, earned), FakeChain()
    chain.seal(sealed)
    made = statement(sealed, name)
    assert made.amount == earned.get(name, 0)
    assert made.problem(TASK, name, chain.round(TASK, 3)) == ""
    assert read_statements(write_statements([made])) == [made]


@given(earned=amounts.filter(lambda earned: "shop" in earned), other=st.integers(1, 10**24))
def test_no_other_amount_organization_or_round_holds(earned, other):
    sealed, chain = outcome(3, 2, 2, earned), FakeChain()
    chain.seal(sealed)
    made, record = statement(sealed), chain.round(TASK, 3)
    if other != made.amount:
        assert "are not under the rewards" in replace(made, amount=other).problem(
            TASK, "shop", record
        )
    assert made.problem(TASK, "cinema", record)
    assert made.problem(b"\x08" * 32, "shop", record)
    for change in (
        {"total": made.total + 1},
        {"root": b"\x01" * 32},
        {"manifest": b"\x01" * 32},
    ):
        assert "was not sealed" in replace(made, **change).problem(TASK, "shop", record)
    for phase in (Phase.NONE, Phase.OPEN, Phase.VOID):
        assert "was not sealed" in made.problem(TASK, "shop", replace(record, phase=phase))


def statements_faults(valid: bytes):
    """What is no message of statements, from one that is; named."""
    [document] = json.loads(valid)
    yield "no JSON", b"["
    yield "no list", canonical_json(document)
    yield "nested without end", b"[" * 100_000
    yield "too long", b" " * (1 << 18) + valid
    yield "twice", canonical_json([document, document])
    yield "too many", canonical_json([{**document, "round": n} for n in range(3, 70)])
    for key in document:
        yield f"without {key}", canonical_json([{k: v for k, v in document.items() if k != key}])
    for key, value in (
        ("round", 0),
        ("round", -1),
        ("round", "3"),
        ("round", 2**53),
        ("counted", 3),
        ("amount", "-1"),
        ("amount", "+1"),
        ("amount", " 1"),
        ("amount", 1),
        ("amount", "9" * 80),
        ("amount", "9" * 5000),
        ("total", "0"),
        ("root", "ab"),
        ("root", None),
        ("proof", ["ab"]),
        ("proof", "ab" * 32),
        ("more", 1),
    ):
        yield f"{key} is {str(value)[:9]!r}", json.dumps([{**document, key: value}]).encode()


VALID = write_statements([statement(outcome(3, 2, 2, {"shop": 5, "cinema": 9}))])


@pytest.mark.parametrize(
    ("name", "content"), list(statements_faults(VALID)), ids=lambda v: str(v)[:30]
)
def test_whatever_is_changed_about_a_message_of_statements_is_refused_in_one_line(name, content):
    with pytest.raises(ValueError, match=r".") as caught:
        read_statements(content)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_a_message_speaks_of_the_newest_rounds_alone():
    many = [statement(outcome(n, n - 1, n - 1, {"shop": n})) for n in range(1, 100)]
    assert read_statements(write_statements(many)) == many[-MOST_STATEMENTS:]


def test_each_round_earned_what_it_added_once_the_next_seal_says_so(tmp_path):
    chain = FakeChain()
    sealed = [
        outcome(1, 0, 0, {}),
        outcome(2, 1, 1, {"shop": 10, "cinema": 3}),
        outcome(3, 2, 2, {"shop": 10, "cinema": 9}),
        # Nobody attested the third round: the fourth is counted, the third is not.
        outcome(4, 3, 2, {"shop": 10, "cinema": 9}),
        outcome(5, 4, 4, {"shop": 17, "cinema": 9}),
    ]
    for one in sealed:
        chain.seal(one)
    earnings = told(tmp_path, chain, sealed)
    assert {n: e.wei for n, e in earnings.by_round().items()} == {1: 10, 2: 0, 3: 0, 4: 7}
    assert {n: e.wei for n, e in earnings.by_round(4).items()} == {3: 0, 4: 7}
    assert not any(e.arrived for e in earnings.by_round().values())


def test_money_has_arrived_once_its_round_is_final_and_it_was_paid(tmp_path):
    chain = FakeChain()
    first, second = outcome(1, 0, 0, {}), outcome(2, 1, 1, {"shop": 10})
    third = outcome(3, 2, 2, {"shop": 15})
    chain.seal(first, Phase.FINAL)
    chain.seal(second, Phase.FINAL)
    chain.seal(third)
    earnings = told(tmp_path, chain, [first, second, third])
    assert not earnings.by_round()[1].arrived
    chain.rewards.paid[organization_id("shop")] = 10
    assert earnings.by_round()[1].arrived
    assert not earnings.by_round()[2].arrived
    chain.rewards.paid[organization_id("shop")] = 15
    assert not earnings.by_round()[2].arrived
    chain.seal(third, Phase.FINAL)
    assert earnings.by_round()[2].arrived


def test_nothing_has_arrived_too_once_it_is_final(tmp_path):
    chain = FakeChain()
    first, second = outcome(1, 0, 0, {}), outcome(2, 1, 1, {"cinema": 10})
    chain.seal(first, Phase.FINAL)
    chain.seal(second)
    earnings = told(tmp_path, chain, [first, second])
    assert earnings.by_round()[1].arrived is False
    chain.seal(second, Phase.FINAL)
    assert earnings.by_round()[1] == RoundEarning(0, arrived=True)


def test_what_a_dispute_left_behind_counts_for_nothing(tmp_path):
    chain = FakeChain()
    first, second = outcome(1, 0, 0, {}), outcome(2, 1, 1, {"shop": 10})
    left, again = outcome(3, 2, 2, {"shop": 99}), outcome(4, 2, 2, {"shop": 12})
    for one in (first, second, left):
        chain.seal(one)
    earnings = told(tmp_path, chain, [first, second, left])
    assert earnings.by_round()[2].wei == 89
    chain.seal(left, Phase.DISPUTED)
    chain.seal(again, Phase.FINAL)
    earnings.take([statement(again)])
    chain.rewards.paid[organization_id("shop")] = 12
    assert earnings.by_round()[2].wei == 2
    assert earnings.by_round()[2].arrived


def test_rounds_between_two_statements_that_lack_one_cannot_be_told_apart(tmp_path):
    chain = FakeChain()
    sealed = [
        outcome(n, n - 1, n - 1, {"shop": 10 * (n - 1)} if n > 1 else {}) for n in (1, 2, 3, 4)
    ]
    for one in sealed:
        chain.seal(one)
    earnings = told(tmp_path, chain, [sealed[0], sealed[1], sealed[3]])
    assert set(earnings.by_round()) == {1}
    earnings.take([statement(sealed[2])])
    assert {n: e.wei for n, e in earnings.by_round().items()} == {1: 10, 2: 10, 3: 10}


def test_a_statement_that_does_not_hold_is_not_kept(tmp_path):
    chain = FakeChain()
    sealed = outcome(2, 1, 1, {"shop": 10})
    chain.seal(sealed)
    earnings = OwnEarnings(tmp_path, TASK, "shop", chain)
    [problem] = earnings.take([replace(statement(sealed), amount=11, total=11)])
    assert "was not sealed" in problem
    assert earnings.by_round() == {}


def test_an_altered_file_is_named(tmp_path):
    chain = FakeChain()
    sealed = outcome(1, 0, 0, {})
    chain.seal(sealed)
    earnings = told(tmp_path, chain, [sealed])
    [path] = tmp_path.rglob("earnings.json")
    path.write_text('{"statements": [{}]}')
    with pytest.raises(ArchiveError, match=r"earnings\.json was altered"):
        earnings.by_round()


@pytest.fixture
def nothing_to_finalize(monkeypatch):
    monkeypatch.setattr("client_app.own_earnings.finalize_ready", lambda *_: None)


@pytest.mark.usefixtures("nothing_to_finalize")
def test_the_newest_final_round_is_claimed_once(tmp_path):
    chain = FakeChain()
    sealed = earning(3)
    for one in sealed[:2]:
        chain.seal(one, Phase.FINAL)
    chain.seal(sealed[2])
    earnings = told(tmp_path, chain, sealed)
    assert earnings.collect(lambda: chain) == 10
    assert earnings.collect(lambda: chain) == 0
    assert chain.rewards.claims == [(2, 10)]


def test_whoever_earned_nothing_makes_it_final_too_once(tmp_path, monkeypatch):
    chain, calls = FakeChain(), []
    first, second = outcome(1, 0, 0, {}), outcome(2, 1, 1, {})
    chain.seal(first)
    chain.seal(second)

    def finalize(*_):
        calls.append(1)
        chain.seal(first, Phase.FINAL)
        chain.seal(second, Phase.FINAL)

    monkeypatch.setattr("client_app.own_earnings.finalize_ready", finalize)
    earnings = told(tmp_path, chain, [first, second])
    assert earnings.collect(lambda: chain) == 0
    assert earnings.by_round()[1] == RoundEarning(0, arrived=True)
    assert earnings.collect(lambda: chain) == 0
    assert len(calls) == 1


@pytest.mark.usefixtures("nothing_to_finalize")
def test_where_another_claimed_for_us_nothing_is_wrong(tmp_path):
    chain = FakeChain()
    sealed = [outcome(1, 0, 0, {}), outcome(2, 1, 1, {"shop": 10})]
    for one in sealed:
        chain.seal(one, Phase.FINAL)
    earnings = told(tmp_path, chain, sealed)

    def claimed_before(*arguments):
        chain.rewards.paid[organization_id("shop")] = 10
        raise ChainError("RewardsNothingToClaim")

    chain.rewards.claim = claimed_before
    earnings.collect(lambda: chain)
    chain.rewards.paid.clear()
    chain.rewards.claim = lambda *_: (_ for _ in ()).throw(ChainError("no gas"))
    with pytest.raises(ChainError, match="no gas"):
        earnings.collect(lambda: chain)
