"""What runs on the machine, and what answers at the door."""

from typing import Final

from blockchain.managed_node import ManagedNode
from client_app.deployment import start_coordinator, start_node
from client_app.deployment.door import Door
from client_app.doctor.check import Finding, fails, holds
from client_app.doctor.machine import Machine

#: Calls by which runs are started and nodes registered, and by which a run's tasks are taken.
CONTROL_PATHS: Final = (
    "/v1/control/start-run",
    "/v1/control/register-node",
    "/v1/runtime/acquire-task",
)
_NOT_FOUND: Final = 404


def processes(machine: Machine) -> Finding:
    """Look whether the machine's processes run."""
    if machine.organization is None:
        wanted, kept = ["superlink", "door"], start_coordinator.processes(machine.home)
    else:
        wanted, kept = ["supernode"], start_node.processes(machine.home, machine.name)
    running = kept.running()
    missing = {name: kept.log(name) for name in wanted if name not in running}
    ids = [f"{name} {running[name]}" for name in wanted if name in running]
    if machine.organization is None and machine.managed:
        chain = ManagedNode(machine.home, machine.coordinator.chain_port).status()
        if chain.running:
            ids.append(f"chain {chain.pid}")
        else:
            missing["chain"] = chain.log
    if missing:
        logs = ", ".join(str(log) for log in missing.values())
        return fails(
            f"{', '.join(missing)}: not running",
            f"`foedus up`; why it ended stands at the end of {logs}",
        )
    return holds(", ".join(ids))


def door(machine: Machine) -> Finding:
    """Ask the SuperLink, through the door, whether it is well."""
    machine.door.healthy()
    return holds(f"{machine.address}, and the SuperLink behind it")


def federation(machine: Machine) -> Finding:
    """Ask the door for what it says of the federation."""
    told = machine.told
    founded = "founded" if told.word.deployment is not None else "not founded yet"
    return holds(f"{founded}; answered in {1000 * (told.answered - told.asked):.0f} ms")


def superlink(machine: Machine) -> Finding:
    """Ask the SuperLink where only this machine reaches it."""
    address = f"127.0.0.1:{machine.coordinator.superlink_port}"
    Door.of(address, machine.authority).healthy()
    return holds(address)


def control(machine: Machine) -> Finding:
    """Make sure that nobody starts runs through the port that is open to organizations."""
    for path in CONTROL_PATHS:
        status = machine.door.status("POST", path)
        if status != _NOT_FOUND:
            return fails(
                f"{path} is answered with {status} at the open port {machine.coordinator.port}: "
                "whoever reaches it may start runs",
                f"close the port now; stop what listens there if it is not the door, and let only "
                f"`foedus up` open {machine.coordinator.port}",
            )
    return holds(f"not to be had at port {machine.coordinator.port}")
