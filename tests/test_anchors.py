"""Anchors of private ledgers on a real chain: they only grow, whatever becomes of the key."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from eth_utils.crypto import keccak

from blockchain import transparency_log as log
from blockchain.anchors import Anchor, AnchorEvent, AnchorStatement
from blockchain.deployment import connect_deployed, deploy
from blockchain.errors import TransactionRevertedError
from blockchain.keys import fund_from_development_account, open_account
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.typed_data import Domain, sign_digest
from strategies.audit_anchors import anchor_problem, check_anchors
from tests.bare_node import bare_node
from tests.chain_samples import ask, founding_of
from tests.consistency_cases import make_log
from tests.signing_cases import account_of

DEADLINE = 2**40
SHOP, CINEMA = organization_id("shop"), organization_id("cinema")


@dataclass(frozen=True)
class Told:
    """An anchor as somebody brings it."""

    statement: AnchorStatement
    signature: bytes
    proof: tuple[bytes, ...]


def told(
    chain: PublicChain,
    leaves: list[bytes],
    name: str = "shop",
    *,
    signer: str = "",
    domain: Domain | None = None,
    deadline: int = DEADLINE,
) -> Told:
    """The anchor of a ledger, proven from what stands."""
    organization = organization_id(name)
    statement = AnchorStatement(organization, len(leaves), log.root(leaves), deadline)
    digest = statement.digest(domain or chain.anchors.domain)
    before = chain.anchors.last(organization).size
    proof = log.consistency_proof(leaves, before) if 0 < before <= len(leaves) else []
    return Told(statement, sign_digest(digest, account_of(signer or name)), tuple(proof))


def brought(chain: PublicChain, anchor: Told) -> None:
    chain.anchors.anchor(anchor.statement, anchor.signature, anchor.proof)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicChain]:
    folder = tmp_path_factory.mktemp("chain")
    with bare_node(folder / "node.log") as settings:
        account = open_account(folder / "keys")
        fund_from_development_account(settings, account.address, folder)
        deploy(settings, account, folder, lambda: founding_of(account.address))
        yield connect_deployed(settings, folder, account)


@pytest.mark.real
def test_a_ledger_is_anchored_as_it_grows_and_a_repeated_call_finds_its_anchor(chain):
    assert chain.anchors.last(CINEMA) == Anchor(0, bytes(32), 0)
    sizes, receipts = (1, 2, 7, 8, 13), []
    for size in sizes:
        anchor = told(chain, make_log(size), "cinema")
        receipts.append(chain.anchors.anchor(anchor.statement, anchor.signature, anchor.proof))
        again = chain.anchors.anchor(anchor.statement, anchor.signature, ())
        assert again == receipts[-1]
    history = chain.anchors.history(CINEMA)
    assert [event.anchor.size for event in history] == list(sizes)
    assert [event.previous_size for event in history] == [0, 1, 2, 7, 8]
    assert chain.anchors.last(CINEMA) == history[-1].anchor
    assert history[-1].anchor.root == log.root(make_log(13))
    assert history[-1].anchor.block == receipts[-1].block_number
    assert all(check.holds for check in check_anchors(["cinema"], chain, 1))


def forked(leaves: list[bytes]) -> list[bytes]:
    return [b"another past", *leaves[1:]]


#: By name: how a valid anchor of nine leaves over five is spoiled, and what the contract says.
SPOILED = {
    "a ledger with another past": (
        lambda chain: told(chain, forked(make_log(9))),
        "AnchorsInconsistent",
    ),
    "a past of which another proof is brought": (
        lambda chain: replace(told(chain, make_log(9)), proof=told(chain, make_log(8)).proof),
        "AnchorsInconsistent",
    ),
    "a proof cut short": (
        lambda chain: replace(told(chain, make_log(9)), proof=told(chain, make_log(9)).proof[:-1]),
        "AnchorsInconsistent",
    ),
    "a ledger taken back": (lambda chain: told(chain, make_log(4)), "AnchorsNotGrowing"),
    "another ledger of the same size": (
        lambda chain: told(chain, forked(make_log(5))),
        "AnchorsNotGrowing",
    ),
    "another organization's key": (
        lambda chain: told(chain, make_log(9), signer="microblog"),
        "AnchorsWrongSigner",
    ),
    "a signature for another contract": (
        lambda chain: told(chain, make_log(9), domain=chain.domain),
        "AnchorsWrongSigner",
    ),
    "a signature for another chain": (
        lambda chain: told(chain, make_log(9), domain=replace(chain.anchors.domain, chain_id=1)),
        "AnchorsWrongSigner",
    ),
    "a signature over another size": (
        lambda chain: replace(
            told(chain, make_log(9)), signature=told(chain, make_log(8)).signature
        ),
        "AnchorsWrongSigner",
    ),
    "an organization nobody knows": (
        lambda chain: told(chain, make_log(9), "stranger"),
        "AnchorsNoKey",
    ),
    "an anchor that was allowed until yesterday": (
        lambda chain: told(chain, make_log(9), deadline=1),
        "AnchorsExpired",
    ),
}


@pytest.mark.real
@pytest.mark.parametrize("name", SPOILED)
def test_what_is_anchored_is_neither_changed_nor_taken_back_by(chain, name):
    if chain.anchors.last(SHOP).size == 0:
        brought(chain, told(chain, make_log(5)))
    before = chain.anchors.last(SHOP)
    spoil, error = SPOILED[name]
    with pytest.raises(TransactionRevertedError, match=error):
        brought(chain, spoil(chain))
    assert chain.anchors.last(SHOP) == before


@pytest.mark.real
def test_a_new_key_goes_on_with_the_same_ledger_and_the_old_one_does_not(chain):
    if chain.anchors.last(SHOP).size == 0:
        brought(chain, told(chain, make_log(5)))
    old, new = account_of("shop"), account_of("shop, anew")
    chain.members.rotate_key(SHOP, old, new, DEADLINE)
    with pytest.raises(TransactionRevertedError, match="AnchorsWrongSigner"):
        brought(chain, told(chain, make_log(9)))
    with pytest.raises(TransactionRevertedError, match="AnchorsInconsistent"):
        brought(chain, told(chain, forked(make_log(9)), signer="shop, anew"))
    brought(chain, told(chain, make_log(9), signer="shop, anew"))
    assert [event.anchor.size for event in chain.anchors.history(SHOP)] == [5, 9]
    assert chain.anchors.last(SHOP).size == 9


@pytest.mark.real
def test_an_anchor_put_into_the_nodes_storage_is_seen_by_the_events(chain):
    organization = organization_id("microblog")
    for size in (3, 6):
        brought(chain, told(chain, make_log(size), "microblog"))
    [check] = check_anchors(["microblog"], chain, 1)
    assert check.holds
    contract, node = chain.addresses["Anchors"], chain.contracts["Anchors"].settings
    stood = chain.anchors.last(organization)
    # The anchor's second word is its root: forged, a ledger with another past could follow.
    slots = [hex(int.from_bytes(keccak(organization + base.to_bytes(32))) + 1) for base in range(8)]
    [slot] = [
        slot
        for slot in slots
        if ask(node, "eth_getStorageAt", contract, slot, "latest") == "0x" + stood.root.hex()
    ]
    forged = log.root(forked(make_log(6)))
    ask(node, "hardhat_setStorageAt", contract, slot, "0x" + forged.hex())
    try:
        [check] = check_anchors(["microblog"], chain, 1)
        assert not check.holds
        assert f"0x{forged.hex()} in block {stood.block}, the events tell of" in check.detail
    finally:
        ask(node, "hardhat_setStorageAt", contract, slot, "0x" + stood.root.hex())


def anchors(*sizes: int) -> list[AnchorEvent]:
    """A history of anchors, a block each."""
    return [
        AnchorEvent(Anchor(size, log.root(make_log(size)), 10 + number), before)
        for number, (before, size) in enumerate(zip((0, *sizes), sizes, strict=False))
    ]


HISTORY = anchors(2, 5, 9)

#: By name: what is told instead of `HISTORY`, from block 1.
TAMPERED = {
    "the last anchor replaced": (replace(HISTORY[-1].anchor, root=bytes(32)), HISTORY),
    "the last anchor made later": (replace(HISTORY[-1].anchor, block=99), HISTORY),
    "the last anchor taken back": (HISTORY[1].anchor, HISTORY),
    "an event left out": (HISTORY[-1].anchor, [HISTORY[0], HISTORY[2]]),
    "the last event left out": (HISTORY[-1].anchor, HISTORY[:2]),
    "two events swapped": (HISTORY[-1].anchor, [HISTORY[1], HISTORY[0], HISTORY[2]]),
    "all events left out": (HISTORY[-1].anchor, []),
    "an anchor that did not grow": (
        HISTORY[1].anchor,
        [*HISTORY[:2], AnchorEvent(HISTORY[1].anchor, 5)],
    ),
}


def test_a_history_that_hangs_together_is_no_problem_wherever_one_begins_to_look():
    assert anchor_problem(HISTORY[-1].anchor, HISTORY, 1) == ""
    assert anchor_problem(HISTORY[-1].anchor, HISTORY[1:], 11) == ""
    # Anchored before the run, and not since.
    assert anchor_problem(HISTORY[-1].anchor, [], 13) == ""


@pytest.mark.parametrize("name", TAMPERED)
def test_a_history_does_not_hang_together_with(name):
    last, history = TAMPERED[name]
    problem = anchor_problem(last, history, 1)
    assert problem
    assert "\n" not in problem
