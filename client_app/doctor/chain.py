"""The chain that counts, the contracts on it, and blocks that were seen before."""

from blockchain.block_witness import missing
from blockchain.connection import answers_of
from blockchain.deployment import check_deployment
from blockchain.errors import NodeUnreachableError
from client_app.doctor.check import Finding, fails, holds
from client_app.doctor.machine import Machine
from strategies.witnessed_blocks import witnessed_file


def chain(machine: Machine) -> Finding:
    """Ask the chain's node which chain it serves, and how far it is."""
    settings = machine.chain_settings
    try:
        node = machine.chain_node
    except NodeUnreachableError:
        # Its own words are for who has the node on this machine.
        return fails(f"no Ethereum node answers at {settings.shown_url}", _whose(machine))
    with answers_of(node, "the height"):
        height = int(node.eth.block_number)
    return holds(f"chain {settings.chain_id} at {settings.shown_url}, block {height}")


def _whose(machine: Machine) -> str:
    if machine.organization is None:
        return (
            f"`foedus up` starts it; if it ended, see {machine.home / 'chain' / 'node.log'}"
            if machine.managed
            else "start it, or correct chain-url in coordinator.toml"
        )
    return (
        "it is the coordinator's, behind its door: have it call `foedus doctor` on its machine"
        if machine.managed
        else "start it, or correct chain-url in node.toml"
    )


def founded(machine: Machine) -> Finding:
    """Look whether the coordinator names contracts at all."""
    told = machine.told.word.deployment
    if told is None:
        return fails(
            "the coordinator names no contracts",
            "once all have joined it calls `foedus deploy`; if it did before, have it call "
            "`foedus doctor`",
        )
    return holds(f"Rounds at {told.addresses.get('Rounds')}, says the coordinator")


def kept_contracts(machine: Machine) -> Finding:
    """Look whether the machine knows all contracts."""
    kept = machine.deployment
    return holds(f"Rounds at {kept.addresses['Rounds']}")


def told_contracts(machine: Machine) -> Finding:
    """Compare the kept contracts with those that the coordinator names now."""
    told = machine.told.word.deployment
    if told is None or told.identity != machine.deployment.identity:
        others = "none" if told is None else f"Rounds at {told.addresses.get('Rounds')}"
        return fails(
            f"the coordinator names other contracts ({others}) than those kept here (Rounds at "
            f"{machine.deployment.addresses['Rounds']})",
            "do not go on before all members know why; if it was agreed on, move "
            f"{machine.home / 'chain' / 'deployment.json'} away, then `foedus up`",
        )
    return holds("as kept here")


def contracts(machine: Machine) -> Finding:
    """Look whether the contracts are on the chain, this version's, and work with each other."""
    node, settings, kept = machine.chain_node, machine.chain_settings, machine.deployment
    with answers_of(node, "the contracts"):
        check_deployment(node, settings, kept)
    return holds(f"{len(kept.contracts)} contracts, from block {kept.first_block} on")


def blocks(machine: Machine) -> Finding:
    """Look whether blocks that the organization noted are still on the chain."""
    path = witnessed_file(machine.chain, machine.home, machine.name)
    if not path.exists():
        return holds("none noted yet")
    gone = missing(machine.chain_node, path)
    if gone:
        return fails(
            f"block {gone[0].height} and {len(gone) - 1} more that were noted here have left the "
            "chain: its history was rewritten",
            f"take part in nothing more (`foedus down`), keep {path}, and show it to the other "
            "members",
        )
    return holds("all that were noted stand")
