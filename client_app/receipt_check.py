"""A receipt held against the public chain: by an organization that is given it, and by anyone."""

from collections.abc import Iterator

from blockchain.chain_records import RoundRecord
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.typed_data import SignatureError, check_signer
from blockchain.unlearning_messages import RequestState, UnlearningScope
from blockchain.unlearning_requests import StoredRequest
from strategies.lineage import Lineage
from unlearning.receipt import Evidence, Place, Receipt, ReceiptError


def check_receipt(receipt: Receipt, chain: PublicChain) -> list[str]:
    """Make sure that a receipt is what attestors signed and the contract keeps.

    Returns
    -------
    list of str
        What was checked, for people.

    Raises
    ------
    ReceiptError
        One line for the first thing that is not so.
    """
    evidence, identifier = receipt.evidence, bytes.fromhex(receipt.evidence.request.id)
    stored = chain.unlearning.request_of(identifier)
    if stored is None or stored.state is not RequestState.COMPLETED:
        state = "unknown" if stored is None else stored.state.name.lower()
        raise ReceiptError(f"the request is {state} on chain, expected completed")
    expected = evidence.completion(receipt.first_affected)
    if stored.completion != expected:
        raise ReceiptError("the chain keeps another completion than the evidence makes")
    done = ["evidence, adapter and guarantee are those on the chain"]
    done += check_evidence(evidence, stored, chain)
    needed = chain.members.attestor_threshold()
    for name, signature in sorted(receipt.approvals.items()):
        digest = expected.digest(chain.unlearning_domain, identifier, organization_id(name))
        keys = [period.key for period in chain.members.key_history(organization_id(name))]
        try:
            check_signer(digest, bytes.fromhex(signature), *keys)
        except SignatureError as error:
            raise ReceiptError(f"approval of {name}: {error}") from error
    if len(receipt.approvals) < needed:
        raise ReceiptError(f"{len(receipt.approvals)} attestors signed, expected {needed}")
    done.append(f"signed by the attestors {', '.join(sorted(receipt.approvals))}")
    return done


def check_evidence(evidence: Evidence, stored: StoredRequest, chain: PublicChain) -> list[str]:
    """Hold evidence against the chain, whether or not the request is completed yet.

    Returns
    -------
    list of str
        What was checked, for people.

    Raises
    ------
    ReceiptError
        One line for the first thing that is not so.
    """
    done = [_check_asked(evidence, stored, chain)]
    kept = Lineage.parse(evidence.lineage)
    first = min(evidence.rounds, default=0)
    for name, place in (("before", evidence.before), ("after", evidence.after)):
        _check_place(name, place, chain)
    if evidence.label == "NOTHING_TO_FORGET":
        if first:
            raise ReceiptError(f"round {first} drew the data, and the label says that none did")
        if evidence.before != evidence.after:
            raise ReceiptError("nothing was to forget, and the adapter is another one")
        return [*done, "no round drew the data, as the organization signed"]
    if not first:
        raise ReceiptError("no round drew the data, and the label says that something was done")
    if evidence.label == "EMPIRICAL":
        _check_unlearned(evidence, kept, chain)
    elif evidence.label == "EXACT_ISOLATED":
        if evidence.request.scope != "organization" or kept.after < evidence.rounds[-1]:
            raise ReceiptError("isolation guarantees for whole organizations, all rounds kept")
    elif kept.after >= first:
        raise ReceiptError(f"round {kept.after} was kept, and round {first} drew the data")
    if bytes.fromhex(evidence.before.task) not in {span.task for span in kept.spans}:
        raise ReceiptError("the run before is none that the run after goes on from")
    done += _check_made_again(evidence, chain)
    return done


def _check_asked(evidence: Evidence, stored: StoredRequest, chain: PublicChain) -> str:
    asked, on_chain = evidence.request, stored.request
    stated = (
        bytes.fromhex(asked.id),
        bytes.fromhex(asked.task),
        organization_id(asked.organization),
        bytes.fromhex(asked.subject),
        asked.scope.upper(),
        asked.deadline,
    )
    expected = (
        on_chain.id,
        on_chain.task,
        on_chain.organization,
        on_chain.subject,
        on_chain.scope.name,
        on_chain.deadline,
    )
    if stated != expected:
        raise ReceiptError("the evidence is about another request than the one of its id on chain")
    signed = evidence.signed_plan()
    if signed is None:
        if on_chain.scope is not UnlearningScope.ORGANIZATION:
            raise ReceiptError("the organization's word on the affected rounds is missing")
        return "the request is the one on the chain"
    keys = [period.key for period in chain.members.key_history(on_chain.organization)]
    try:
        signed.check(chain.unlearning_domain, *keys)
    except SignatureError as error:
        raise ReceiptError(f"plan: {error}") from error
    plan = signed.plan
    if (plan.id, plan.organization) != (on_chain.id, on_chain.organization):
        raise ReceiptError("the organization's word is about another request")
    if list(plan.rounds) != evidence.rounds:
        raise ReceiptError("the affected rounds are others than the organization signed")
    return "the request is the one on the chain, its rounds those that the organization signed"


def _check_place(name: str, place: Place, chain: PublicChain) -> None:
    task, adapter = bytes.fromhex(place.task), bytes.fromhex(place.adapter)
    found = (
        chain.round(task, place.round).adapter_hash
        if place.round
        else chain.task(task).genesis_adapter
    )
    if found != adapter:
        raise ReceiptError(
            f"{name}: round {place.round} of run {place.run} has the adapter 0x{found.hex()[:16]}… "
            f"on chain, the evidence says 0x{place.adapter[:16]}…"
        )


def _check_unlearned(evidence: Evidence, kept: Lineage, chain: PublicChain) -> None:
    """Make sure that a run that unlearned by training was asked for, and says what it measured."""
    signed = evidence.signed_plan()
    if signed is None or signed.plan.method != "fast":
        raise ReceiptError("the organization asked to be forgotten exactly, the label is EMPIRICAL")
    started_from = chain.task(bytes.fromhex(evidence.after.task)).genesis_adapter.hex()
    # Without the terms of one that leaves, the run starts from another adapter.
    whole = evidence.request.scope == "organization"
    same = whole or evidence.before.adapter == started_from
    if kept.after < evidence.rounds[-1] or not same:
        raise ReceiptError("to unlearn by training, the run before is gone on from as a whole")
    organization = evidence.request.organization
    if not any(
        one.organization == organization and one.name == "forget-loss" and one.before and one.after
        for one in evidence.metrics
    ):
        raise ReceiptError("what has come of the unlearning was not measured")


def _check_made_again(evidence: Evidence, chain: PublicChain) -> list[str]:
    """Make sure that the run after is one of the evidence's terms, attested to its last round."""
    task = bytes.fromhex(evidence.after.task)
    if chain.task(task).terms.hex() != evidence.terms:
        raise ReceiptError("the run after has other terms on chain than the evidence says")
    missing = [
        record.round
        for record in branch(chain, task, evidence.after.round)
        if not any(record.scores)
    ]
    if missing:
        raise ReceiptError(f"round {missing[0]} of run {evidence.after.run} was never attested")
    return [f"every round of run {evidence.after.run} was recomputed and attested"]


def branch(chain: PublicChain, task: bytes, last: int) -> Iterator[RoundRecord]:
    """Yield a round and all that it builds on, the newest first."""
    number = last
    while number:
        record = chain.round(task, number)
        yield record
        number = record.parent_round
