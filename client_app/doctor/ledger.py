"""The organization's private ledger: whole, and no older than what was anchored of it."""

from blockchain.merkle import organization_id
from blockchain.private.anchoring import check_anchor
from client_app.doctor.check import Finding, fails, holds, warns
from client_app.doctor.machine import Machine
from client_app.own_record import failed_anchor
from strategies.home import ledger_folder, organization_folder


def ledger(machine: Machine) -> Finding:
    """Rebuild the ledger from its raw records, opening none of its payloads."""
    history = machine.ledger
    if history is None:
        return holds("none yet: it is founded in the first round")
    return holds(f"{history.height} blocks, {history.size} records")


def anchored(machine: Machine) -> Finding:
    """Hold the ledger against its last anchor on the chain."""
    history, last = machine.ledger, machine.chain.anchors.last(organization_id(machine.name))
    if history is None:
        if not last.size:
            return holds("nothing is anchored, and there is no ledger yet")
        return fails(
            f"{last.size} records are anchored in block {last.block}, and there is no ledger in "
            f"{ledger_folder(machine.home, machine.name)}",
            "`foedus ledger restore` it from a backup",
        )
    check_anchor(history, last)
    if problem := failed_anchor(organization_folder(machine.home, machine.name), last.size):
        return warns(
            f"{last.size} of {history.size} records are anchored; the last try failed: {problem}",
            "see `funds` and `chain`, then `foedus ledger anchor`",
        )
    return holds(f"{last.size} records are anchored, and stand")
