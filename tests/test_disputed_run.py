"""A run in which a round is disputed: what was built on it is left behind, and the run goes on."""

import pytest
from eth_account import Account

from blockchain.chain_records import Phase
from blockchain.deployment import connect_deployed, deploy
from blockchain.keys import fund_from_development_account
from blockchain.model_update import receipt_digest
from blockchain.typed_data import sign_digest
from strategies.audit import audit
from strategies.run_archive import RunArchive
from tests.bare_node import bare_node
from tests.chain_samples import DISPUTES, ask, founding_of
from tests.signing_cases import NAMES, account_of, signed_update
from tests.small_federation import Federation, honest_attestor, small_settings

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("flower_task")]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A chain whose clock can be moved, with the coordinator's key of the small federation."""
    folder = tmp_path_factory.mktemp("chain")
    coordinator = account_of("coordinator")
    with bare_node(folder / "node.log") as settings:
        for account in (coordinator, account_of("south")):
            fund_from_development_account(settings, account.address, folder)
        founding = founding_of(coordinator.address, *NAMES)
        deploy(settings, coordinator, folder, lambda: founding)
        yield connect_deployed(settings, folder, coordinator)


def later(chain, seconds):
    settings = chain.contracts["Rounds"].settings
    ask(settings, "evm_increaseTime", seconds)
    ask(settings, "evm_mine")


def test_a_round_that_omits_an_acknowledged_update_is_left_behind_with_all_built_on_it(
    chain, tmp_path
):
    federation = None

    def challenging(content, number, _):
        # While round 2 is open, south shows that round 1 lacks an update that was acknowledged,
        # and nobody answers in time.
        if number == 2 and chain.round(federation.task, 1).phase is Phase.SEALED:
            genesis = chain.task(federation.task).genesis_adapter
            signed = signed_update(
                federation.context, "south", 1, genesis, update_hash=bytes(32), num_examples=9
            )
            digest = signed.update.digest(chain.domain)
            word = sign_digest(receipt_digest(digest, chain.domain), account_of("coordinator"))
            south = chain.sent_by(account_of("south"), tmp_path)
            south.disputes.challenge(signed.update, word, DISPUTES.bond)
            later(chain, DISPUTES.challenge_window + DISPUTES.response_window + 1)
            south.disputes.dispute(federation.task, 1)
        return content

    attestors = {"east": honest_attestor, "north": honest_attestor}
    settings = small_settings(rounds=4)
    federation = Federation(
        tmp_path, chain, settings, behaviours={"south": challenging}, attestors=attestors
    )
    federation.run()
    records = chain.rounds(federation.task)
    # Round 5 seals what the last one earned.
    assert [record.phase for record in records] == [
        Phase.DISPUTED,
        Phase.VOID,
        Phase.SEALED,
        Phase.SEALED,
        Phase.SEALED,
    ]
    assert [record.parent_round for record in records] == [0, 1, 0, 3, 4]
    (left,) = federation.events_of("branch-abandoned")
    assert (left["last"], left["head"]) == (1, 0)
    assert [event["round"] for event in federation.events_of("round-voided")] == [2]
    # What the disputed round earned is not carried on.
    assert federation.archive.manifest(3)["rewards"]["amounts"] == {}
    assert federation.archive.manifest(4)["rewards"]["amounts"] != {}
    assert [
        check for check in audit(RunArchive(federation.archive.folder), chain) if not check.holds
    ] == []
    # The chain of final rounds starts anew from the genesis adapter.
    later(chain, DISPUTES.challenge_window + 1)
    for number in (3, 4, 5):
        chain.finalize(federation.task, number)
    assert chain.task(federation.task).last_final_round == 5
    again = Federation(tmp_path, chain, settings, attestors=attestors).run()
    assert again.strategy.last_round == 5


def test_a_stranger_can_bring_what_attestors_signed_and_finalize(chain, tmp_path):
    federation = Federation(
        tmp_path,
        chain,
        small_settings(rounds=1),
        attestors={"east": honest_attestor, "north": honest_attestor},
    ).run()
    stranger = Account.create()
    settings = chain.contracts["Rounds"].settings
    fund_from_development_account(settings, stranger.address, tmp_path)
    later(chain, DISPUTES.challenge_window + 1)
    chain.sent_by(stranger, tmp_path).finalize(federation.task, 1)
    assert chain.round(federation.task, 1).phase is Phase.FINAL
