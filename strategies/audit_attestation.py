"""Whether a round's attestation on disk is the one on the chain, and signed by attestors."""

from collections.abc import Iterator

from blockchain.chain_records import RoundRecord
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from blockchain.typed_data import SignatureError, check_signer
from strategies.attesting import attestation_of
from strategies.audit_check import Check, equal
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import RunArchive
from strategies.signed_update import TaskContext


def check_attestation(
    archive: RunArchive,
    outcome: RoundOutcome,
    on_chain: RoundRecord,
    context: TaskContext,
    chain: PublicChain,
) -> Iterator[Check]:
    """Check scores and signatures of an attested round; one that is not attested has no checks.

    Parameters
    ----------
    archive : RunArchive
        The run on disk.
    outcome : RoundOutcome
        The round as its manifest says.
    on_chain : RoundRecord
        The same round on the chain.
    context : TaskContext
        What signatures must be bound to.
    chain : PublicChain
        A connection that can read.
    """
    number = outcome.round
    attestation = archive.attestation(number)
    block = chain.attested_block(context.task, number)
    if block is None:
        if attestation is not None and attestation.landed is not None:
            yield Check(number, "attestation", False, "noted as landed, and not on the chain")
        return
    if attestation is None:
        path = archive.round_folder(number) / "attestation.json"
        yield Check(number, "attestation", False, f"{path} is missing")
        return
    yield equal(number, "attestation", attestation.scores.hash(), on_chain.scores)
    for name, signature in attestation.signatures.items():
        digest = attestation_of(outcome, context.task, name, attestation.scores).digest(
            context.domain
        )
        keys = chain.members.keys_between(organization_id(name), on_chain.closed_block, block)
        try:
            check_signer(digest, signature, *keys)
        except SignatureError as error:
            yield Check(number, f"attestation by {name}", False, str(error))
        else:
            yield Check(number, f"attestation by {name}", True)
