"""Payouts on a real chain: scored, sealed, final, claimed, and nothing before its time."""

import itertools
import json

import pytest

from strategies.payouts import claim, finalize_ready, payouts
from strategies.rewards import RewardTerms, round_rewards
from tests.attestation_cases import attest
from tests.chain_samples import DISPUTES, ask
from tests.foedus_command import foedus
from tests.signing_cases import NAMES
from tests.small_federation import Federation, LightChain, small_settings

__all__ = ["foedus"]

pytestmark = [pytest.mark.usefixtures("flower_task"), pytest.mark.real]
pytest_plugins = ["tests.travelling_chain"]

_tasks = itertools.count(400)
SCORES = {"east": 4000, "north": 2000, "south": 0, "west": 1000}
WINDOW = DISPUTES.challenge_window


def attested_run(folder, chain, **changes):
    """Two rounds, the first attested before the second was sealed, so that it holds its rewards."""
    run = Federation(folder, chain, small_settings(max_tokens=next(_tasks), **changes))
    progress = run.strategy._progress
    real = progress.attest_last

    def attest_last(grid):
        last = progress.parent_round
        if last and run.archive.attestation(last) is None:
            table = attest(run, last, SCORES)
            progress.rewards = progress.rewards.after(table, RewardTerms.of(run.settings))
        real(grid)

    progress.attest_last = attest_last
    run.run()
    attest(run, 2, SCORES)
    most = run.settings.rounds * RewardTerms.of(run.settings).pool
    run.chain.rewards.fund(run.task, most)
    return run


def found(run):
    terms = RewardTerms.of(run.settings)
    return {p.organization: p for p in payouts(run.archive, run.chain, run.task, terms, NAMES)}


@pytest.fixture
def run(tmp_path, travelling):
    return attested_run(
        tmp_path,
        travelling.chain,
        chain_url=str(travelling.settings.rpc_url),
        home=str(tmp_path),
    )


def test_rewards_are_shown_claimed_once_and_never_before_the_round_is_final(run, travelling):
    terms = RewardTerms.of(run.settings)
    each = round_rewards(SCORES, pool=terms.pool, constant=terms.constant)
    before = found(run)
    for name in NAMES:
        payout = before[name]
        assert [(e.round, e.score, e.wei) for e in payout.rounds] == [
            (number, SCORES[name], each[name]) for number in (1, 2)
        ]
        assert (payout.cumulative, payout.claimed, payout.claimable) == (each[name], 0, 0)
        assert payout.unsealed == each[name]
        assert [later.round for later in payout.later] == ([2] if each[name] else [])
    closed = run.chain.round(run.task, 2).closed_at
    assert before["east"].later[0].earliest == closed + WINDOW + 1

    sending = travelling.sent_by("east")
    early = finalize_ready(sending, run.task)
    assert early.rounds == ()
    assert "the time to challenge it is not over" in early.waiting[0].hindrances
    assert claim(sending, run.archive, run.task, "east") is None

    travelling.travel(WINDOW + 1)
    assert finalize_ready(sending, run.task).rounds == (1, 2)
    assert finalize_ready(sending, run.task).rounds == ()
    paid = claim(sending, run.archive, run.task, "east")
    assert (paid.round, paid.wei) == (2, each["east"])
    assert claim(sending, run.archive, run.task, "east") is None
    assert claim(sending, run.archive, run.task, "south") is None
    after = found(run)
    assert (after["east"].claimed, after["east"].claimable) == (each["east"], 0)
    assert (after["north"].claimed, after["north"].claimable) == (0, each["north"])
    assert after["north"].later == ()


def test_time_that_went_by_without_a_block_counts(run, travelling):
    ask(travelling.settings, "evm_increaseTime", WINDOW + 1)
    # Nothing was mined since: the last block is as old as the window.
    travelling.sent_by("east").finalize(run.task, 1)
    assert run.chain.task(run.task).last_final_round == 1


def test_a_round_that_nobody_attested_is_waited_for_and_so_is_what_builds_on_it(
    tmp_path, travelling
):
    run = Federation(tmp_path, travelling.chain, small_settings(max_tokens=next(_tasks))).run()
    attest(run, 2)
    travelling.travel(WINDOW + 1)
    finalized = finalize_ready(travelling.sent_by("east"), run.task)
    assert finalized.rounds == ()
    assert [stands.hindrances for stands in finalized.waiting] == [
        ("it is not attested",),
        ("round 1, which it builds on, cannot be final yet",),
    ]


def test_the_commands_show_and_claim(run, travelling, foedus):
    home = travelling.home(run.archive.home, "east", "north")
    at = ("--home", str(home))
    status, out, _ = foedus("rewards", "show", *at)
    assert status == 0
    assert "what round 2 sealed can be claimed once it is final" in out
    assert "what the last attested round earned is sealed with the round that follows" in out
    status, out, _ = foedus("rewards", "claim", "--all", *at)
    assert status == 0
    assert "round 1 is not final yet, at the earliest" in out
    assert "there is nothing to claim now" in out
    travelling.travel(WINDOW + 1)
    status, out, _ = foedus("rewards", "claim", "--all", "--json", *at)
    said = json.loads(out)
    assert (status, said["finalized"], said["waiting"]) == (0, [1, 2], [])
    assert [entry["organization"] for entry in said["claims"]] == ["east", "north"]
    status, out, _ = foedus("rewards", "show", "--org", "east", "--json", *at)
    (payout,) = json.loads(out)["organizations"]
    assert (status, payout["claimed_wei"]) == (0, payout["cumulative_wei"])
    for wrong in ((), ("--all", "--org", "east"), ("--org", "nobody")):
        status, _, err = foedus("rewards", "claim", *wrong, *at)
        assert (status, len(err.strip().splitlines())) == (2, 1)


def test_scores_on_disk_that_the_chain_does_not_know_earn_nothing(tmp_path):
    run = Federation(tmp_path, LightChain()).run()
    table = attest(run, 1, SCORES)
    run.archive.write_attestation(2, table, {}, None)
    run.chain.rewards = type("Pool", (), {"claimed": lambda *_: 0})()
    run.chain.now = lambda: 0
    assert [earned.round for earned in found(run)["east"].rounds] == [1]
