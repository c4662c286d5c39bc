"""Starts what runs on a coordinator's machine: chain, SuperLink, and the door before both."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from blockchain.managed_node import ManagedNode
from client_app.cli.local_superlink import CONNECTION
from client_app.deployment.certificates import issue_server, server_is_due
from client_app.deployment.coordinator import (
    CoordinatorConfiguration,
    certificates,
    read_coordinator,
)
from client_app.deployment.door import Door, DoorError
from client_app.deployment.flower import flower_environment, flower_home, script
from client_app.deployment.flower_commands import write_launcher
from client_app.deployment.processes import ProcessError, Processes
from client_app.deployment.watching import Part
from strategies.deployed_members import coordinator_folder

_START_SECONDS: Final = 90.0


def processes(home: Path) -> Processes:
    """Return the coordinator's processes; the managed chain keeps its own record."""
    return Processes(coordinator_folder(home) / "processes")


def start_coordinator(
    home: Path, configuration: CoordinatorConfiguration, tell: Callable[[str], None]
) -> list[str]:
    """Start what does not run, and wait until the door answers.

    Parameters
    ----------
    home : Path
        The coordinator's.
    configuration : CoordinatorConfiguration
        What it was told.
    tell : callable
        Told of every step.

    Returns
    -------
    list of str
        What was started.

    Raises
    ------
    ProcessError, CertificateError, ChainError
        If something does not start.
    """
    files, started, running = certificates(home), [], processes(home)
    if server_is_due(files, configuration.addresses):
        tell("certificate")
        issue_server(files, configuration.addresses)
        # Whoever shows the old one has to be started again.
        running.stop()
    if configuration.managed:
        tell("chain")
        node = ManagedNode(home, configuration.chain_port)
        if not node.status().running:
            node.start()
            started.append("chain")
    superlink = f"127.0.0.1:{configuration.superlink_port}"
    _write_connection(home, superlink, files.authority)
    tell("SuperLink")
    command = [
        script("flower-superlink"),
        *("--host", "127.0.0.1", "--port", str(configuration.superlink_port)),
        *("--ssl-certfile", str(files.server), "--ssl-keyfile", str(files.server_key)),
        *("--ssl-ca-certfile", str(files.authority), "--enable-supernode-auth"),
        *("--database", str(coordinator_folder(home) / "superlink.sqlite")),
    ]
    commands = write_launcher(coordinator_folder(home) / "bin")
    if running.start("superlink", command, flower_environment(home, commands)):
        started.append("superlink")
    tell("door")
    command = [
        *(sys.executable, "-m", "server_app.serve_gateway", "--home", str(home)),
        *("--host", configuration.listen, "--port", str(configuration.port)),
        *("--certificate", str(files.server), "--key", str(files.server_key)),
        *("--superlink", superlink, "--authority", str(files.authority)),
        *("--chain-id", str(configuration.chain_id)),
    ]
    if configuration.managed:
        command += ["--chain", f"http://127.0.0.1:{configuration.chain_port}"]
    if running.start("door", command, dict(os.environ)):
        started.append("door")
    _wait(running, Door.of(f"127.0.0.1:{configuration.port}", files.authority))
    return started


def stop_coordinator(home: Path) -> list[str]:
    """End what runs here, the managed chain last; return what ran."""
    stopped = processes(home).stop()
    if read_coordinator(home).managed and ManagedNode(home).stop():
        stopped.append("chain")
    return stopped


def coordinator_part(home: Path, configuration: CoordinatorConfiguration) -> Part:
    """Return what runs on a coordinator's machine, to be watched."""

    def faults() -> list[str]:
        found = processes(home).faults("superlink", "door")
        # A node that is slow to answer runs all the same.
        if configuration.managed and ManagedNode(home).status().pid is None:
            found.append("chain has ended")
        if server_is_due(certificates(home), configuration.addresses):
            found.append("the door's certificate is due")
        return found

    return Part(
        start=lambda: start_coordinator(home, configuration, lambda _: None),
        faults=faults,
        stop=lambda: stop_coordinator(home),
    )


def _wait(running: Processes, door: Door) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        for name in ("superlink", "door"):
            running.require(name)
        try:
            door.healthy()
        except DoorError as error:
            if time.monotonic() > deadline:
                raise ProcessError(str(error)) from None
            time.sleep(0.3)
        else:
            return


def _write_connection(home: Path, superlink: str, authority: Path) -> None:
    folder = flower_home(home)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "{superlink}"\nroot-certificates = "{authority}"\n'
    )
