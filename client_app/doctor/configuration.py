"""What the machine was told: whether it can be read, and whether the organization has joined."""

from client_app.deployment.coordinator import configuration_path
from client_app.deployment.node import node_path
from client_app.doctor.check import Finding, fails, holds
from client_app.doctor.machine import Machine


def configuration(machine: Machine) -> Finding:
    """Read what the machine was told, as `foedus up` and runs will."""
    if machine.organization is None:
        names = machine.coordinator.organizations
        path, about = configuration_path(machine.home), f"{len(names)} organizations"
    else:
        path, about = node_path(machine.home, machine.name), machine.node.organization
        if machine.node.organization != machine.organization:
            return fails(
                f"{path} is that of {machine.node.organization}, in the folder of "
                f"{machine.organization}",
                "move the folder, or write its own organization into it",
            )
    # Settings are checked against each other only here.
    _ = machine.settings
    return holds(f"{path}: {about}")


def joined(machine: Machine) -> Finding:
    """Look whether the organization has answered its invitation."""
    if not machine.node.coordinator:
        return fails(
            f"{machine.name} has not joined a federation",
            "`foedus join INVITATION`, with the file that the coordinator made by `foedus invite`",
        )
    return holds(f"the federation of {machine.node.coordinator}")
