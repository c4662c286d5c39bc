"""Whether every update of a round is one that its organization signed, and none was left out.

And whether what was signed as a decline is listed as one, and nothing else is.
"""

from collections.abc import Iterator

from blockchain.chain_records import RoundRecord
from blockchain.model_update import ModelUpdate
from blockchain.public_chain import PublicChain
from blockchain.typed_data import SignatureError, check_signer
from strategies.audit_check import Check
from strategies.replies import VERDICTS_OF_DECLINES, Verdict
from strategies.round_outcome import Entry, RoundOutcome
from strategies.signed_update import TaskContext


def check_signatures(
    outcome: RoundOutcome, on_chain: RoundRecord, context: TaskContext, chain: PublicChain
) -> Iterator[Check]:
    """Check each entry's signature and kind, and that what stands on the chain is among them.

    Parameters
    ----------
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
    for entry in outcome.entries:
        name = f"signature of {entry.organization}"
        try:
            _check_entry(entry, outcome, on_chain, context, chain)
        except ValueError as error:
            yield Check(number, name, False, str(error))
        else:
            yield Check(number, name, True)
    listed = {entry.digest for entry in outcome.entries}
    for submitted in sorted(chain.submissions(context.task, number).values()):
        yield Check(
            number,
            "submission on chain",
            submitted in listed,
            f"0x{submitted.hex()} was put on the chain and is not among the round's leaves",
        )


def _check_entry(
    entry: Entry,
    outcome: RoundOutcome,
    on_chain: RoundRecord,
    context: TaskContext,
    chain: PublicChain,
) -> None:
    organization = entry.organization_id
    if not entry.signature:
        # The contract held the signature against the key when it took the submission.
        submitted = chain.submissions(context.task, outcome.round)
        if submitted.get(organization) != entry.digest:
            raise SignatureError("neither signed in the manifest nor put on the chain")
        if entry.verdict != Verdict.PAYLOAD_UNAVAILABLE:
            # Nothing holds its other fields against the digest: no update could be told from them.
            raise ValueError(
                f"known from the chain alone, and its verdict is {Verdict(entry.verdict).name}, "
                f"expected {Verdict.PAYLOAD_UNAVAILABLE.name}"
            )
        return
    update = entry.update(context, outcome.round, outcome.parent)
    if update.digest(context.domain) != entry.digest:
        raise SignatureError("the entry's fields are not those of the digest in its leaf")
    keys = chain.members.keys_between(organization, on_chain.opened_block, on_chain.closed_block)
    check_signer(entry.digest, entry.signature, *keys)
    _check_kind(update, Verdict(entry.verdict))


def _check_kind(update: ModelUpdate, verdict: Verdict) -> None:
    """Refuse an update that is passed off as a decline, and a decline as an update.

    Raises
    ------
    ValueError
        If the verdict cannot be that of what was signed.
    """
    if update.declines and verdict not in VERDICTS_OF_DECLINES:
        raise ValueError(f"signed that it declines, and its verdict is {verdict.name}")
    if not update.declines and verdict is Verdict.DECLINED:
        raise ValueError(
            f"signed an update over {update.num_examples} records, and its verdict is "
            f"{verdict.name}"
        )
