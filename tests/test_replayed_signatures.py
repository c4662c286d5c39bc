"""On a real chain, a signature says one thing, in one place, once; nothing else made of it counts.

Every refused transaction is mined all the same, and leaves what the contracts store as it was.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from eth_keys.constants import SECPK1_N
from web3.types import TxParams

from blockchain.deployment import connect_deployed, deploy
from blockchain.errors import RecordMismatchError, TransactionRevertedError
from blockchain.sender import TransactionReceipt
from tests.chain_samples import DISPUTES, GENESIS, founding_of
from tests.signed_statements import (
    EAST,
    KINDS,
    NORTH,
    SEAL,
    WEST,
    Kind,
    Place,
    Statement,
    attestations,
    updates,
)
from tests.signing_cases import NAMES, account_of

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]


def with_high_s(signature: bytes) -> bytes:
    """The second form of a signature, which anyone can make of the first."""
    mirrored = (SECPK1_N - int.from_bytes(signature[32:64])).to_bytes(32)
    return signature[:32] + mirrored + bytes([55 - signature[64]])


def in_short_form(signature: bytes) -> bytes:
    """EIP-2098's 64 bytes, with v in the highest bit of s."""
    s = int.from_bytes(signature[32:64]) | (signature[64] - 27) << 255
    return signature[:32] + s.to_bytes(32)


#: By what is wrong with it, a signature that a key did make, but not this or not here.
FOREIGN: dict[str, Callable[[Statement, Place], bytes]] = {
    "signed for another chain": lambda statement, _: statement.signature(
        replace(statement.domain, chain_id=statement.domain.chain_id + 1)
    ),
    "signed for another contract": lambda statement, elsewhere: statement.signature(
        elsewhere.domain_like(statement.domain)
    ),
    "signed with the key of somebody else": lambda statement, _: statement.signature(
        key=account_of("south")
    ),
    "signed with its v changed to the other one": lambda statement, _: (
        statement.signature()[:64] + bytes([55 - statement.signature()[64]])
    ),
}

#: By what is wrong with it, one that no key made, and OpenZeppelin's word for it.
MALFORMED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "with s in the upper half": (with_high_s, "ECDSAInvalidSignatureS"),
    "with v counted from zero": (
        lambda valid: valid[:64] + bytes([valid[64] - 27]),
        "ECDSAInvalidSignature",
    ),
    "cut by a byte": (lambda valid: valid[:-1], "ECDSAInvalidSignatureLength"),
    "in the short form of a signature": (in_short_form, "ECDSAInvalidSignatureLength"),
}


def sentences(faults: Callable[[Kind], Iterable[str]]) -> list[Any]:
    return [
        pytest.param(kind, fault, id=f"{name} {fault}")
        for name, kind in KINDS.items()
        for fault in faults(kind)
    ]


def each(*names: str) -> list[Any]:
    return [pytest.param(KINDS[name], id=name) for name in names]


@contextmanager
def refused(place: Place, error: str) -> Iterator[pytest.ExceptionInfo[TransactionRevertedError]]:
    """Have what is brought mined and refused, with this error and nothing changed."""
    before, height = place.standing(), place.chain.node.eth.block_number
    with pytest.MonkeyPatch.context() as patch:
        # Without an estimate the node does not refuse it beforehand: it lands, and reverts.
        patch.setattr(place.chain.node.eth, "estimate_gas", lambda *_: 500_000)
        with pytest.raises(TransactionRevertedError) as caught:
            yield caught
    assert caught.value.error == error
    assert place.chain.node.eth.block_number == height + 1
    assert place.standing() == before


def accept(place: Place, statement: Statement) -> bytes:
    """Bring a statement as it should be signed: the contract takes it."""
    signature = statement.signature()
    statement.bring(place, signature)
    return signature


class WouldBeTakenError(Exception):
    """The contract took what was brought, and it was left at that."""


def check_still_good(place: Place, statement: Statement) -> None:
    """Make sure that the contract would take the statement now, without making it."""
    estimate = place.chain.node.eth.estimate_gas

    def estimated(transaction: TxParams, block: str) -> int:
        raise WouldBeTakenError(estimate(transaction, block))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place.chain.node.eth, "estimate_gas", estimated)
        with pytest.raises(WouldBeTakenError):
            statement.bring(place, statement.signature())


@pytest.fixture(scope="module")
def here(travelling):
    return Place(travelling.chain)


@pytest.fixture(scope="module")
def twins(travelling):
    """Two more deployments on the same node, that differ in their addresses only."""

    def deployed(name: str) -> Place:
        settings, folder = travelling.settings, travelling.folder / name
        coordinator = account_of("coordinator")
        deploy(settings, coordinator, folder, lambda: founding_of(coordinator.address, *NAMES))
        return Place(connect_deployed(settings, folder, coordinator))

    return deployed("first"), deployed("second")


@pytest.mark.parametrize(("kind", "purpose"), sentences(lambda kind: kind.others))
def test_the_contract_refuses(here, kind, purpose):
    statement = here.unsaid(kind.at)
    with refused(here, kind.forged):
        statement.bring(here, statement.signature(**kind.others[purpose]))
    check_still_good(here, statement)


@pytest.mark.parametrize(("kind", "fault"), sentences(lambda _: FOREIGN))
def test_the_contract_tells_the_signer_and_refuses(here, twins, kind, fault):
    statement = here.unsaid(kind.at)
    with refused(here, kind.forged) as caught:
        statement.bring(here, FOREIGN[fault](statement, twins[0]))
    assert int(caught.value.arguments["signer"], 16)
    check_still_good(here, statement)


@pytest.mark.parametrize(("kind", "fault"), sentences(lambda _: MALFORMED))
def test_the_contract_finds_no_signer_and_refuses(here, kind, fault):
    statement = here.unsaid(kind.at)
    forge, told = MALFORMED[fault]
    by_registry = kind.forged == "MemberKeysWrongSigner"
    with refused(here, told if by_registry else kind.forged) as caught:
        statement.bring(here, forge(statement.signature()))
    assert by_registry or int(caught.value.arguments["signer"], 16) == 0
    check_still_good(here, statement)


@pytest.mark.parametrize("kind", each(*KINDS))
def test_nothing_is_taken_twice_not_even(here, kind):
    # The very statement that all forgeries above were made of.
    statement = here.unsaid(kind.at)
    taken = accept(here, statement)
    with refused(here, kind.repeated):
        statement.bring(here, taken)


@pytest.mark.parametrize("kind", each(*KINDS))
def test_the_very_bytes_that_one_contract_took_its_twin_refuses_for(twins, kind):
    one, other = twins
    statement = kind.at(one)("one thing")
    taken = accept(one, statement)
    with refused(other, kind.elsewhere):
        statement.bring(other, taken)
    # Tasks of both have different ids; changes and rotations would be the same on both.
    if kind.forged == "MemberKeysWrongSigner":
        accept(other, replace(statement, domain=other.domain_like(statement.domain)))
    else:
        accept(other, kind.at(other)("one thing"))


@pytest.mark.parametrize(
    ("kind", "organization"),
    [
        pytest.param(KINDS[name], organization, id=name)
        for name, organization in {
            "an update": WEST,
            "an attestation": EAST,
            "an approval": NORTH,
            "a rotation": WEST,
        }.items()
    ],
)
def test_a_replaced_key_no_longer_signs(here, kind, organization):
    replaced = here.keys[organization]
    here.rotate(organization)
    statement = kind.at(here)("one thing")
    with refused(here, kind.forged) as caught:
        statement.bring(here, statement.signature(key=replaced))
    assert caught.value.arguments["signer"] == replaced.address.lower()
    accept(here, statement)


@pytest.mark.parametrize("kind", each("an update", "an attestation", "an approval", "a rotation"))
def test_a_retry_cannot_say_two_things_by(here, kind):
    first, second = map(kind.at(here), ("one thing", "another thing"))
    check_still_good(here, second)
    accept(here, first)
    with refused(here, kind.repeated):
        second.bring(here, second.signature())


def test_an_update_is_not_taken_again_in_the_next_round_on_the_same_parent(here):
    update = updates(here)("one thing")
    taken = accept(here, update)
    here.chain.void_round(update.said.task, 1)
    here.chain.open_round(update.said.task, 2, GENESIS)
    with refused(here, "RoundsUnexpectedPhase"):
        update.bring(here, taken)
    next_update = replace(update.said, round=2)
    with refused(here, "SubmissionsWrongSigner"):
        here.chain.disputes.submit(next_update, taken)
    here.chain.disputes.submit(next_update, update.signature(round=2))


def test_a_challenge_is_not_filed_for_another_update_than_the_one_submitted(here):
    submitted, other = map(updates(here), ("one thing", "another thing"))
    accept(here, submitted)
    here.chain.seal(submitted.said.task, 1, SEAL)
    with refused(here, "OmissionsNotSubmitted"):
        here.chain.disputes.challenge(other.said, b"", DISPUTES.bond)
    here.chain.disputes.challenge(submitted.said, b"", DISPUTES.bond)


def test_attesting_again_finds_the_first_transaction_and_other_scores_are_refused(here):
    first, second = map(attestations(here), ("one thing", "another thing"))

    def attest(statement: Statement) -> TransactionReceipt:
        said = statement.said
        north = statement.signature(key=here.keys[NORTH], organization=NORTH)
        signatures = {EAST: statement.signature(), NORTH: north}
        return here.chain.attest(said.task, said.round, said.scores, signatures)

    receipt = attest(first)
    assert attest(first) == receipt
    with pytest.raises(RecordMismatchError, match="is attested with scores"):
        attest(second)
    assert here.chain.round(first.said.task, 1).scores == first.said.scores
