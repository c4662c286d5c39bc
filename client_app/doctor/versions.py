"""Python, Foedus, Flower, torch and Node: the versions that results depend on."""

import importlib.metadata
import re
import subprocess
import sys
from typing import Final

from blockchain.toolchain import hardhat_command, node_executable
from client_app.cli.app_bundle import own_bundle
from client_app.deployment.node import node_path
from client_app.doctor.check import Finding, fails, holds, warns
from client_app.doctor.machine import Machine

#: What Foedus is developed and tested with, and the only one whose results it answers for.
PYTHON: Final = (3, 11)

_SET_UP: Final = "`make setup` in the clone, then `foedus down` and `foedus up`"
_PINNED: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([0-9A-Za-z.]+)")
#: Pinned as well, and of no use to whoever compares two machines.
_SHOWN: Final = ("flwr", "torch")
_NODE_SECONDS: Final = 30


def installed(_: Machine) -> Finding:
    """Compare what is installed with what this Foedus pins exactly."""
    found, wrong = [f"Python {'.'.join(map(str, sys.version_info[:3]))}"], []
    if sys.version_info[:2] != PYTHON:
        wrong.append(f"Python {'.'.join(map(str, sys.version_info[:2]))}, expected 3.11")
    version = version_of("foedus")
    if version is None:
        return fails("Foedus is not installed here", _SET_UP)
    found.append(f"Foedus {version}")
    for requirement in importlib.metadata.requires("foedus") or ():
        pinned = _PINNED.fullmatch(requirement.replace(" ", ""))
        if pinned is None:
            continue
        name, expected = pinned.groups()
        version = version_of(name)
        # Behind a plus stands for which processor it was built.
        if version is None or version.partition("+")[0] != expected:
            wrong.append(f"{name} {version or 'is missing'}, expected {expected}")
        elif name in _SHOWN:
            found.append(f"{name} {version}")
    return fails("; ".join(wrong), _SET_UP) if wrong else holds(", ".join(found))


def node_js(machine: Machine) -> Finding:
    """Look whether what the managed chain runs by is there."""
    if not machine.coordinator.managed:
        return holds("not needed: the chain's node is elsewhere")
    hardhat_command()
    try:
        said = subprocess.run(
            [node_executable(), "--version"],
            capture_output=True,
            text=True,
            timeout=_NODE_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return fails(f"Node at {node_executable()}: {type(error).__name__}", _SET_UP)
    return holds(f"Node {said.strip()}, and Hardhat")


def bundle(machine: Machine) -> Finding:
    """Look whether the application installed here is one that may run here."""
    path = node_path(machine.home, machine.name)
    agreed, own = machine.node.bundles, own_bundle()
    if not agreed:
        return fails(
            f"{path}: bundles is empty: nothing may run",
            f"look at the application, and add {own} to bundles in {path}; then `foedus up`",
        )
    if own not in agreed:
        return fails(
            f"the application installed here, {own}, is not agreed to: runs of a coordinator with "
            "the same version are refused",
            f"look at what has changed, and add it to bundles in {path}; then `foedus up`",
        )
    return holds(f"{own[:16]}... is agreed to")


def coordinators(machine: Machine) -> Finding:
    """Compare Foedus and Flower with the coordinator's."""
    word = machine.told.word
    if not word.foedus or not word.flwr:
        return warns(
            "the coordinator does not say which versions it has",
            "ask it to bring its Foedus up to date (`git pull && make setup`), and to call "
            "`foedus down` and `foedus up`",
        )
    pairs = (("Foedus", word.foedus, "foedus"), ("Flower", word.flwr, "flwr"))
    differing = [
        f"{name} {told} at the coordinator, {version_of(package)} here"
        for name, told, package in pairs
        if told != version_of(package)
    ]
    if differing:
        return fails(
            "; ".join(differing),
            "agree on one version, and install it on both machines (`git pull && make setup`)",
        )
    return holds(f"Foedus {word.foedus}, Flower {word.flwr}")


def version_of(package: str) -> str | None:
    """Return a package's version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
