"""Whether the private ledgers that lie under a home are what their anchors say, as far as seen."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from blockchain.merkle import organization_id
from blockchain.private.anchoring import check_anchor
from blockchain.private.audit import audit
from blockchain.private.errors import LedgerError
from blockchain.private.files import LEDGER_FILE
from blockchain.public_chain import PublicChain
from strategies.audit_check import Check
from strategies.home import ledger_folder


def check_ledgers(organizations: Sequence[str], home: Path, chain: PublicChain) -> Iterator[Check]:
    """Rebuild each ledger from its raw records, and hold it against its last anchor.

    Nobody's key is needed, and no payload is opened: ``foedus ledger verify`` does that. What lies
    elsewhere, as on separate machines, is not judged.

    Parameters
    ----------
    organizations : sequence of str
        Names.
    home : Path
        Where their ledgers may lie.
    chain : PublicChain
        A connection that can read.
    """
    for name in organizations:
        folder = ledger_folder(home, name)
        if not (folder / LEDGER_FILE).exists():
            continue
        try:
            check_anchor(audit(folder).history, chain.anchors.last(organization_id(name)))
        except LedgerError as error:
            yield Check(0, f"ledger of {name}", False, str(error))
        else:
            yield Check(0, f"ledger of {name}", True)
