"""What contracts take by signature: statements that can be signed right, wrong or for elsewhere."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount

from blockchain.chain_records import Seal
from blockchain.membership import (
    CHANGE_TYPE,
    PAUSER,
    ROTATION_TYPE,
    Change,
    ChangeKind,
    approvals_argument,
)
from blockchain.merkle import organization_id
from blockchain.model_update import Attestation, ModelUpdate, receipt_digest
from blockchain.public_chain import PublicChain
from blockchain.typed_data import Domain, sign_digest
from blockchain.typed_data import digest as typed_digest
from tests.chain_samples import DISPUTES, GENESIS, ask, digest, fresh_task
from tests.signing_cases import DEADLINE, NAMES, account_of

EAST, NORTH, SOUTH, WEST = (organization_id(name) for name in NAMES)
SEAL = Seal(digest("root"), 1, digest("adapter"), digest("manifest"))
_cases = itertools.count()


@dataclass
class Place:
    """One deployment, and the keys that the organizations have there now."""

    chain: PublicChain
    keys: dict[bytes, LocalAccount] = field(
        default_factory=lambda: {organization_id(name): account_of(name) for name in NAMES}
    )
    #: Statements of `unsaid`.
    waiting: dict[Any, "Statement"] = field(default_factory=dict)

    def unsaid(self, saying: Callable[["Place"], "Saying"]) -> "Statement":
        """A statement that may still be made; the same one each time, until it was made."""
        if saying not in self.waiting:
            self.waiting[saying] = saying(self)("one thing")
        return self.waiting[saying]

    def domain_like(self, domain: Domain) -> Domain:
        """Where signatures count here that count there in this domain."""
        domains = (self.chain.domain, self.chain.members.domain)
        return next(own for own in domains if own.name == domain.name)

    def open_round(self) -> bytes:
        """A new task in its first round."""
        task = fresh_task(self.chain)
        self.chain.open_round(task, 1, GENESIS)
        return task

    def sealed_round(self) -> bytes:
        """A new task whose first round is sealed."""
        task = self.open_round()
        self.chain.seal(task, 1, SEAL)
        return task

    @cached_property
    def challenged(self) -> bytes:
        """A task in whose sealed round any number of updates may be said to be missing."""
        return self.sealed_round()

    def rotate(self, organization: bytes) -> None:
        """Give an organization a new key."""
        old, new = self.keys[organization], account_of(f"new key {next(_cases)}")
        self.chain.members.rotate_key(organization, old, new, DEADLINE)
        self.knows(organization, new)

    def knows(self, organization: bytes, key: LocalAccount) -> None:
        """Note a new key; what was to be signed with the old one has to be made anew."""
        self.keys[organization] = key
        self.waiting.clear()

    def standing(self) -> list[tuple[str, str]]:
        """All that the two contracts that take signatures store, as one hash, and what they hold.

        A proof of it is read and not the records: it leaves nothing out.
        """
        settings = self.chain.contracts["Rounds"].settings
        proofs = [
            ask(settings, "eth_getProof", address, [], "latest")
            for address in (self.chain.addresses["Rounds"], self.chain.addresses["Registry"])
        ]
        return [(proof["storageHash"], proof["balance"]) for proof in proofs]


@dataclass(frozen=True)
class Statement:
    """What a contract takes once it is signed."""

    said: Any
    signer: LocalAccount
    domain: Domain
    digest: Callable[..., bytes]
    bring: Callable[[Place, bytes], object]

    def signature(
        self, domain: Domain | None = None, key: LocalAccount | None = None, **changes: Any
    ) -> bytes:
        """Sign as it should be, or elsewhere, with another key, or with other fields."""
        return sign_digest(self.digest(domain or self.domain, **changes), key or self.signer)


Saying = Callable[[str], Statement]


def updates(place: Place) -> Saying:
    """The update of `west` for an open round, brought to the chain."""
    task, key = place.open_round(), place.keys[WEST]

    def saying(word: str) -> Statement:
        terms = place.chain.task(task).terms
        said = ModelUpdate(task, 1, WEST, GENESIS, terms, digest(word), 8, DEADLINE)

        def signed(domain: Domain, **changes: Any) -> bytes:
            return replace(said, **changes).digest(domain)

        def bring(at: Place, signature: bytes) -> None:
            at.chain.disputes.submit(said, signature)
            at.waiting.pop(updates, None)

        return Statement(said, key, place.chain.domain, signed, bring)

    return saying


def receipts(place: Place) -> Saying:
    """The coordinator's receipt for an update that a sealed round left out."""
    task, case = place.challenged, next(_cases)

    def saying(word: str) -> Statement:
        terms = place.chain.task(task).terms
        said = ModelUpdate(task, 1, WEST, GENESIS, terms, digest(f"{word} {case}"), 8, DEADLINE)

        def signed(domain: Domain, **changes: Any) -> bytes:
            return receipt_digest(replace(said, **changes).digest(domain), domain)

        def bring(at: Place, signature: bytes) -> None:
            at.chain.disputes.challenge(said, signature, DISPUTES.bond)
            at.waiting.pop(receipts, None)

        return Statement(said, account_of("coordinator"), place.chain.domain, signed, bring)

    return saying


def attestations(place: Place) -> Saying:
    """The attestation of `east` beside that of `north`, about a sealed round."""
    task, keys = place.sealed_round(), dict(place.keys)

    def saying(word: str) -> Statement:
        sealed = (SEAL.updates_root, SEAL.adapter_hash, SEAL.record)
        said = Attestation(task, 1, EAST, *sealed, digest(word))

        def signed(domain: Domain, **changes: Any) -> bytes:
            return replace(said, **changes).digest(domain)

        other = sign_digest(signed(place.chain.domain, organization=NORTH), keys[NORTH])

        def bring(at: Place, signature: bytes) -> None:
            # `PublicChain.attest` looks for an earlier attestation before it asks the contract.
            both = approvals_argument({EAST: signature, NORTH: other})
            at.chain.contracts["Rounds"].send("attest", task, 1, said.scores, both)
            at.waiting.pop(attestations, None)

        return Statement(said, keys[EAST], place.chain.domain, signed, bring)

    return saying


def approvals(place: Place) -> Saying:
    """The approval of `north` beside two others, of an account that may pause."""
    number, keys, case = place.chain.members.next_nonce(), dict(place.keys), next(_cases)

    def saying(word: str) -> Statement:
        account = account_of(f"{word} {case}").address
        said = Change(ChangeKind.GRANT_ROLE, number, DEADLINE, account=account, role=PAUSER)

        def signed(domain: Domain, **changes: Any) -> bytes:
            return typed_digest(domain, CHANGE_TYPE, replace(said, **changes).values())

        def bring(at: Place, signature: bytes) -> None:
            others = {who: at.chain.members.approve(said, keys[who]) for who in (EAST, WEST)}
            at.chain.members.execute(said, {NORTH: signature, **others})
            at.waiting.pop(approvals, None)

        return Statement(said, keys[NORTH], place.chain.members.domain, signed, bring)

    return saying


def rotations(place: Place) -> Saying:
    """The word of the key of `west` that another takes its place."""
    number, old, case = place.chain.members.member(WEST).nonce, place.keys[WEST], next(_cases)

    def saying(word: str) -> Statement:
        new = account_of(f"{word} {case}")
        said = {"organization": WEST, "newKey": new.address, "nonce": number, "deadline": DEADLINE}

        def signed(domain: Domain, **changes: Any) -> bytes:
            return typed_digest(domain, ROTATION_TYPE, {**said, **changes})

        def bring(at: Place, signature: bytes) -> None:
            # `Membership.rotate_key` signs by itself: what was signed elsewhere goes past it.
            owned = sign_digest(signed(at.chain.members.domain), new)
            registry = at.chain.contracts["Registry"]
            registry.send("rotateKey", WEST, new.address, DEADLINE, signature, owned)
            at.knows(WEST, new)

        return Statement(said, old, place.chain.members.domain, signed, bring)

    return saying


@dataclass(frozen=True)
class Kind:
    """How a kind of statement is made, and the contract's errors: forged, repeated, elsewhere."""

    at: Callable[[Place], Saying]
    forged: str
    repeated: str
    elsewhere: str
    #: Other statements of the same signer, by what they were signed for.
    others: dict[str, dict[str, Any]]


KINDS = {
    "an update": Kind(
        updates,
        "SubmissionsWrongSigner",
        "SubmissionsAlreadySubmitted",
        "SubmissionsWrongSigner",
        {
            "signed for another round": {"round": 2},
            "signed for another task": {"task": digest("another task")},
            "signed for another organization": {"organization": SOUTH},
            "signed for another number of examples": {"num_examples": 9},
        },
    ),
    "a receipt": Kind(
        receipts,
        "OmissionsWrongReceipt",
        "OmissionsAlreadyChallenged",
        "RoundsUnexpectedPhase",
        {
            "signed for an update of another round": {"round": 2},
            "signed for an update of another task": {"task": digest("another task")},
            "signed for another update": {"commitment": digest("another commitment")},
        },
    ),
    "an attestation": Kind(
        attestations,
        "AttestorsWrongSigner",
        "AttestationsAlreadyAttested",
        "RoundsUnexpectedPhase",
        {
            "signed for another round": {"round": 2},
            "signed for another task": {"task": digest("another task")},
            "signed for another attestor": {"organization": NORTH},
            "signed for another result": {"adapter": GENESIS},
            "signed for scores that the other attestor did not sign": {
                "scores": digest("other scores")
            },
        },
    ),
    "an approval": Kind(
        approvals,
        "MemberKeysWrongSigner",
        "RegistryUnexpectedNonce",
        "MemberKeysWrongSigner",
        {
            "signed for another number": {"nonce": 10**6},
            "signed for another account": {"account": "0x" + "11" * 20},
        },
    ),
    "a rotation": Kind(
        rotations,
        "MemberKeysWrongSigner",
        "MemberKeysWrongSigner",
        "MemberKeysWrongSigner",
        {
            "signed for another number": {"nonce": 10**6},
            "signed for another organization": {"organization": SOUTH},
            "signed for another new key": {"newKey": "0x" + "11" * 20},
        },
    ),
}
