"""Files that hold something secret: there, and readable by their owner alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from blockchain.private.files import SECRETS_FILE
from client_app.deployment.coordinator import certificates, configuration_path
from client_app.deployment.node import node_key_folder, node_path
from client_app.doctor.check import Finding, fails, holds
from client_app.doctor.machine import Machine
from strategies.home import ledger_folder
from strategies.organization_key import SIGNING, key_folder

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def secret_files(machine: Machine) -> Finding:
    """Look who may read them."""
    try:
        return _looked_at(machine)
    except PermissionError as error:
        return fails(
            f"{error.filename} cannot be looked at: {error.strerror}",
            f"call Foedus as the user who owns {machine.home}",
        )


def _looked_at(machine: Machine) -> Finding:
    here = [path for path in _secret(machine) if path.exists()]
    if missing := [path for path in _needed(machine) if not path.exists()]:
        return fails(
            f"missing: {_named(missing)}",
            "bring it back from a backup; without one, see `foedus init`: another key is another "
            "identity, which members have to admit",
        )
    seen = {path: path.stat() for path in here}
    if strange := [path for path, status in seen.items() if status.st_uid != os.geteuid()]:
        return fails(
            f"owned by somebody else: {_named(strange)}",
            f"`chown {os.geteuid()} FILE`, or call Foedus as the user who owns them",
        )
    if open_ones := [path for path, status in seen.items() if status.st_mode & _OTHERS]:
        return fails(
            f"others may read: {_named(open_ones)}",
            f"`chmod 600 {' '.join(map(str, open_ones))}`; who could read them meanwhile has them",
        )
    return holds(f"{len(here)} files, for their owner alone")


def _needed(machine: Machine) -> Iterator[Path]:
    """Yield those without which nothing runs, whatever has been done so far."""
    if machine.organization is None:
        files = certificates(machine.home)
        yield from (files.authority_key, configuration_path(machine.home))
        return
    keys = key_folder(machine.home, machine.name)
    yield from (keys / f"{SIGNING}.json", keys / f"{SIGNING}.passphrase")
    yield node_key_folder(machine.home, machine.name) / "node"
    yield node_path(machine.home, machine.name)


def _secret(machine: Machine) -> Iterator[Path]:
    yield from _needed(machine)
    if machine.organization is None:
        yield certificates(machine.home).server_key
        keys = machine.home / "chain" / "keys"
    else:
        yield ledger_folder(machine.home, machine.name) / SECRETS_FILE
        keys = key_folder(machine.home, machine.name)
    needed = set(_needed(machine))
    for pattern in ("*.json", "*.passphrase"):
        yield from (path for path in sorted(keys.glob(pattern)) if path not in needed)


def _named(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))
