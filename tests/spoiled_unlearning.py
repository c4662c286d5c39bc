"""What is made of good requests to forget, and of what ends them, and must not count.

Each table tells, by what is wrong with it, how something good is spoiled.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.typed_data import Domain, sign_digest
from blockchain.unlearning_messages import (
    Cancellation,
    Completion,
    Guarantee,
    Request,
    UnlearningScope,
)
from tests.chain_samples import GENESIS, digest
from tests.signed_statements import EAST, NORTH, SOUTH
from tests.signing_cases import DEADLINE, account_of
from tests.test_replayed_signatures import in_short_form, with_high_s
from tests.unlearning_cases import DONE, approved, block_time, signed


@dataclass(frozen=True)
class Asked:
    """A request as somebody brings it."""

    request: Request
    signature: bytes


def asked_for(chain: PublicChain, request: Request) -> Asked:
    return Asked(request, signed(chain, request))


#: Requests, and what the contract says.
SPOILED_REQUESTS: dict[str, tuple[Callable[[PublicChain, Asked], Asked], str]] = {
    "another organization's key": (
        lambda chain, good: replace(good, signature=signed(chain, good.request, "south")),
        "UnlearningWrongSigner",
    ),
    "a signature for another contract": (
        lambda chain, good: replace(
            good, signature=signed(chain, good.request, domain=chain.domain)
        ),
        "UnlearningWrongSigner",
    ),
    "a signature for another chain": (
        lambda chain, good: replace(
            good,
            signature=signed(
                chain, good.request, domain=replace(chain.unlearning_domain, chain_id=1)
            ),
        ),
        "UnlearningWrongSigner",
    ),
    "a signature that takes it back": (
        lambda chain, good: replace(good, signature=signed(chain, Cancellation(good.request.id))),
        "UnlearningWrongSigner",
    ),
    "a signature with s in the upper half": (
        lambda _, good: replace(good, signature=with_high_s(good.signature)),
        "UnlearningWrongSigner",
    ),
    "a signature in the short form": (
        lambda _, good: replace(good, signature=in_short_form(good.signature)),
        "UnlearningWrongSigner",
    ),
    "no signature": (lambda _, good: replace(good, signature=b""), "UnlearningWrongSigner"),
    "another subject than was signed": (
        lambda _, good: replace(good, request=replace(good.request, subject=digest("another"))),
        "UnlearningWrongSigner",
    ),
    "another scope than was signed": (
        lambda _, good: replace(
            good, request=replace(good.request, scope=UnlearningScope.ORGANIZATION)
        ),
        "UnlearningWrongSigner",
    ),
    "another deadline than was signed": (
        lambda _, good: replace(good, request=replace(good.request, deadline=DEADLINE + 1)),
        "UnlearningWrongSigner",
    ),
    "another organization than signed": (
        lambda _, good: replace(good, request=replace(good.request, organization=SOUTH)),
        "UnlearningWrongSigner",
    ),
    "an organization nobody knows": (
        lambda chain, good: asked_for(
            chain, replace(good.request, organization=organization_id("stranger"))
        ),
        "UnlearningNoKey",
    ),
    "a task nobody opened": (
        lambda chain, good: asked_for(chain, replace(good.request, task=digest("no task"))),
        "UnlearningUnknownTask",
    ),
    "a deadline long past": (
        lambda chain, good: asked_for(chain, replace(good.request, deadline=1)),
        "UnlearningExpired",
    ),
    "the time of the last block for a deadline": (
        lambda chain, good: asked_for(
            chain, replace(good.request, deadline=block_time(chain, chain.height()))
        ),
        "UnlearningExpired",
    ),
    "nothing to forget": (
        lambda chain, good: asked_for(chain, replace(good.request, subject=bytes(32))),
        "UnlearningZeroValue",
    ),
}


@dataclass(frozen=True)
class Told:
    """What is brought to complete a request."""

    id: bytes
    completion: Completion
    approvals: dict[bytes, bytes]


def told(chain: PublicChain, id: bytes, **changes: Any) -> Told:
    """A completion, changed before it is signed."""
    completion = replace(DONE, **changes)
    return Told(id, completion, approved(chain, id, completion))


def retold(good: Told, **changes: Any) -> Told:
    """A completion that is changed after it was signed."""
    return replace(good, completion=replace(good.completion, **changes))


def with_north(good: Told, signature: bytes) -> Told:
    """The same with another signature of the second attestor."""
    return replace(good, approvals={**good.approvals, NORTH: signature})


def said_by(
    chain: PublicChain, good: Told, who: bytes, name: str, domain: Domain | None = None
) -> bytes:
    """What is signed in the name of an attestor, with the key of whoever is named."""
    digest = good.completion.digest(domain or chain.unlearning_domain, good.id, who)
    return sign_digest(digest, account_of(name))


#: Completions, and what the contract says.
SPOILED_COMPLETIONS: dict[str, tuple[Callable[[PublicChain, Told], Told], str]] = {
    "one attestor": (
        lambda _, good: replace(good, approvals={EAST: good.approvals[EAST]}),
        "AttestorsTooFew",
    ),
    "no attestor": (lambda _, good: replace(good, approvals={}), "AttestorsTooFew"),
    "a member that is no attestor beside two that are": (
        lambda chain, good: replace(
            good, approvals={**good.approvals, SOUTH: said_by(chain, good, SOUTH, "south")}
        ),
        "AttestorsNotAttestor",
    ),
    "a member that is no attestor in place of one": (
        lambda chain, good: replace(
            good,
            approvals={
                EAST: good.approvals[EAST],
                SOUTH: said_by(chain, good, SOUTH, "south"),
            },
        ),
        "AttestorsNotAttestor",
    ),
    "one attestor in two names": (
        lambda chain, good: with_north(good, said_by(chain, good, NORTH, "east")),
        "AttestorsWrongSigner",
    ),
    "one attestor's signature twice": (
        lambda _, good: with_north(good, good.approvals[EAST]),
        "AttestorsWrongSigner",
    ),
    "a malformed signature": (
        lambda _, good: with_north(good, good.approvals[NORTH][:-1]),
        "AttestorsWrongSigner",
    ),
    "a signature with s in the upper half": (
        lambda _, good: with_north(good, with_high_s(good.approvals[NORTH])),
        "AttestorsWrongSigner",
    ),
    "a signature about another request": (
        lambda chain, good: with_north(good, approved(chain, digest("another"))[NORTH]),
        "AttestorsWrongSigner",
    ),
    "a signature for another contract": (
        lambda chain, good: with_north(good, said_by(chain, good, NORTH, "north", chain.domain)),
        "AttestorsWrongSigner",
    ),
    "other evidence than was signed": (
        lambda _, good: retold(good, evidence_root=digest("other")),
        "AttestorsWrongSigner",
    ),
    "another adapter than was signed": (
        lambda _, good: retold(good, adapter=GENESIS),
        "AttestorsWrongSigner",
    ),
    "a stronger guarantee than was signed": (
        lambda _, good: retold(good, guarantee=Guarantee.EXACT_ISOLATED),
        "AttestorsWrongSigner",
    ),
    "no evidence": (
        lambda chain, good: told(chain, good.id, evidence_root=bytes(32)),
        "UnlearningZeroValue",
    ),
    "no adapter": (
        lambda chain, good: told(chain, good.id, adapter=bytes(32)),
        "UnlearningZeroValue",
    ),
    "no first affected round": (
        lambda chain, good: told(chain, good.id, first_affected_round=0),
        "UnlearningWrongFirstRound",
    ),
    "a first affected round of nothing": (
        lambda chain, good: told(chain, good.id, guarantee=Guarantee.NOTHING_TO_FORGET),
        "UnlearningWrongFirstRound",
    ),
    "a round that never was": (
        lambda chain, good: told(chain, good.id, first_affected_round=2),
        "UnlearningUnknownRound",
    ),
    "a request that nobody brought": (
        lambda chain, _: told(chain, digest("not asked")),
        "UnlearningNotOpen",
    ),
}


#: What is signed to take a request of `west` back.
SPOILED_CANCELLATIONS: dict[str, Callable[[PublicChain, Request], bytes]] = {
    "another organization": lambda chain, it: signed(chain, Cancellation(it.id), "south"),
    "the coordinator": lambda chain, it: signed(chain, Cancellation(it.id), "coordinator"),
    "the signature that asked": signed,
    "a signature about another request": lambda chain, _: signed(
        chain, Cancellation(digest("another"))
    ),
    "a signature for another contract": lambda chain, it: signed(
        chain, Cancellation(it.id), domain=chain.domain
    ),
    "a signature with s in the upper half": lambda chain, it: with_high_s(
        signed(chain, Cancellation(it.id))
    ),
    "no signature": lambda *_: b"",
}
