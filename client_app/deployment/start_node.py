"""Starts what runs on an organization's machine: its SuperNode, with the guard before Flower."""

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from blockchain.deployment import Deployment, read_deployment, write_deployment
from blockchain.errors import NodeUnreachableError
from blockchain.merkle import organization_id
from client_app.deployment.commented_toml import ConfigurationError
from client_app.deployment.door import Door
from client_app.deployment.flower import flower_environment, script
from client_app.deployment.flower_commands import write_guard, write_launcher
from client_app.deployment.node import (
    NodeConfiguration,
    authority_path,
    node_key_folder,
    node_path,
)
from client_app.deployment.processes import Processes
from client_app.deployment.supernode import NAME, start_supernode
from client_app.deployment.watching import Part
from strategies.home import organization_folder
from strategies.run_chain import open_reading_chain
from strategies.settings import RunSettings


class NotReadyError(Exception):
    """The federation is not founded yet, or this organization has not joined it, or has left."""


def processes(home: Path, organization: str) -> Processes:
    """Return an organization's processes."""
    return Processes(organization_folder(home, organization) / "processes")


def start_node(
    home: Path, configuration: NodeConfiguration, tell: Callable[[str], None]
) -> list[str]:
    """Start the SuperNode unless it runs; return what was started.

    Parameters
    ----------
    home : Path
        The organization's.
    configuration : NodeConfiguration
        What it was told.
    tell : callable
        Told what is waited for.

    Raises
    ------
    NotReadyError
        If it has not joined, has left, or there are no contracts yet.
    ConfigurationError, DoorError, ProcessError, ChainError
        If something it needs is not there.
    """
    name, path = configuration.organization, node_path(home, configuration.organization)
    if not configuration.coordinator:
        raise NotReadyError(f"{name} has not joined yet: `foedus join INVITATION`")
    if not configuration.bundles:
        raise ConfigurationError(f"{path}: bundles: none is agreed to, and none would be started")
    authority = authority_path(home)
    fetch_contracts(home, configuration)
    check_not_left(home, configuration)
    command = [
        script("flower-supernode"),
        *("--superlink", configuration.coordinator, "--root-certificates", str(authority)),
        *("--auth-supernode-private-key", str(node_key_folder(home, name) / "node")),
        *("--host", "127.0.0.1", "--port", str(configuration.runtime_port)),
        *("--node-config", _pairs(configuration.node_config(home))),
    ]
    commands = write_guard(organization_folder(home, name) / "bin", configuration.bundles)
    environment = flower_environment(home, write_launcher(commands))
    started = start_supernode(processes(home, name), command, environment, tell)
    return [NAME] if started else []


def node_part(home: Path, configuration: NodeConfiguration, tell: Callable[[str], None]) -> Part:
    """Return what runs on an organization's machine, to be watched."""
    running = processes(home, configuration.organization)
    return Part(
        start=lambda: start_node(home, configuration, tell),
        faults=lambda: running.faults(NAME),
        stop=running.stop,
    )


def fetch_contracts(home: Path, configuration: NodeConfiguration) -> None:
    """Keep where the federation's contracts lie, as the coordinator says it.

    The first time it is believed; contracts that take the place of those are refused.

    Raises
    ------
    NotReadyError
        If there are none yet, or others than before.
    DoorError
        If the coordinator does not answer, or with something else.
    """
    told = Door.of(configuration.coordinator, authority_path(home)).federation()
    if "deployment" not in told:
        raise NotReadyError("the coordinator does not say whether there are contracts")
    told = told["deployment"]
    if told is None:
        raise NotReadyError(
            "the federation is not founded yet: once all have joined, the coordinator calls "
            "`foedus deploy`"
        )
    try:
        deployment = Deployment.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        raise NotReadyError(
            f"the coordinator's record of the contracts is none: {first['loc']}: {first['msg']}"
        ) from None
    kept = read_deployment(home / "chain")
    if kept is not None and kept.identity != deployment.identity:
        raise NotReadyError(
            f"the coordinator names other contracts than those kept in {home / 'chain'}: if that "
            "was agreed on, move deployment.json away"
        )
    write_deployment(home / "chain", deployment)


def check_not_left(home: Path, configuration: NodeConfiguration) -> None:
    """Make sure that the organization has not left the federation.

    A chain that does not answer now says nothing about it, and is no reason not to start.

    Raises
    ------
    NotReadyError
        If it has left.
    ChainError
        If what answers is not the federation's chain.
    """
    name = configuration.organization
    settings = RunSettings.from_run_config({"organizations": name, **configuration.reading(home)})
    try:
        member = open_reading_chain(settings).members.member(organization_id(name))
    except NodeUnreachableError:
        return
    if member.left_in is not None:
        raise NotReadyError(
            f"{name} has left the federation (block {member.left_in}): there is nothing to start; "
            "members could admit it again, with a new key"
        )


def _pairs(config: dict[str, object]) -> str:
    return " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
