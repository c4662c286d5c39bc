"""The organization's private ledger: whole, and no older than what was anchored of it."""

from blockchain.merkle import organization_id
from blockchain.private.anchoring import check_anchor
from blockchain.private.audit import audit
from blockchain.private.files import LEDGER_FILE
from client_app.doctor.check import Finding, fails, holds
from client_app.doctor.machine import Machine
from strategies.home import ledger_folder


def ledger(machine: Machine) -> Finding:
    """Rebuild the ledger from its raw records, opening none of its payloads."""
    folder = ledger_folder(machine.home, machine.name)
    if not (folder / LEDGER_FILE).exists():
        return holds("none yet: it is founded in the first round")
    history = audit(folder).history
    return holds(f"{history.height} blocks, {history.size} records")


def anchored(machine: Machine) -> Finding:
    """Hold the ledger against its last anchor on the chain."""
    folder = ledger_folder(machine.home, machine.name)
    last = machine.chain.anchors.last(organization_id(machine.name))
    if not (folder / LEDGER_FILE).exists():
        if not last.size:
            return holds("nothing is anchored, and there is no ledger yet")
        return fails(
            f"{last.size} records are anchored in block {last.block}, and there is no ledger in "
            f"{folder}",
            "`foedus ledger restore` it from a backup",
        )
    check_anchor(audit(folder).history, last)
    return holds(f"{last.size} records are anchored, and stand")
