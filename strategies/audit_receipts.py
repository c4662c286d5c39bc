"""Whether the rounds hold every update for which an organization under this home has a receipt."""

from collections.abc import Iterator

from blockchain.model_update import receipt_digest
from blockchain.public_chain import PublicChain
from blockchain.typed_data import SignatureError, check_signer
from strategies.audit_check import Check
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import ArchiveError, RunArchive, read_json
from strategies.signed_update import TaskContext


def check_receipts(
    archive: RunArchive, outcome: RoundOutcome, context: TaskContext, chain: PublicChain
) -> Iterator[Check]:
    """Check that what the coordinator acknowledged is among a round's leaves.

    By the organizations' own records, as far as they lie under the run's home: from the run's
    folder alone, an update that was dropped cannot be told from one that never came.

    Parameters
    ----------
    archive : RunArchive
        The run on disk.
    outcome : RoundOutcome
        The round as its manifest says.
    context : TaskContext
        What receipts must be bound to.
    chain : PublicChain
        A connection that can read.
    """
    number = outcome.round
    record = f"tasks/{context.task.hex()}/round-{number:04d}.json"
    listed = {entry.digest for entry in outcome.entries}
    for path in sorted((archive.home / "organizations").glob(f"*/{record}")):
        entry = read_json(path)
        if not entry.get("receipt"):
            continue
        try:
            digest = bytes.fromhex(entry["digest"])
            word = bytes.fromhex(entry["receipt"]["signature"])
            expected = chain.task(context.task).coordinator
            check_signer(receipt_digest(digest, context.domain), word, expected)
        except SignatureError:
            # Not the coordinator's word: nothing that it could be held to.
            continue
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{path} was altered: {error}") from error
        yield Check(
            number,
            f"receipt of {path.parents[2].name}",
            digest in listed,
            f"the coordinator acknowledged 0x{digest.hex()} and left it out: `foedus challenge "
            f"open --org {path.parents[2].name} --round {number}`",
        )
