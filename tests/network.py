"""Where a test's machines stand: in network namespaces of their own, or all on loopback.

A namespace has its own addresses, ports, loopback and link: whoever is in it reaches the others
through a switch alone, and can be cut off. Making them needs root; without it every machine has
127.0.0.1 and ports of its own, and nobody can be cut off.
"""

import contextlib
import os
import secrets
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from tests.chain_samples import free_port

_SUBNET = "10.77.0"


@dataclass(frozen=True)
class Site:
    """Where one machine stands.

    Parameters
    ----------
    name : str
        The machine's.
    address : str
        Where others reach it.
    entry : tuple of str
        What stands before a command that is to run there.
    ports : dict of str to int
        Settings of ports that have to differ from their defaults, since others share its loopback.
    """

    name: str
    address: str
    entry: tuple[str, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)


class Network(ABC):
    """Places for machines."""

    #: What a reader of the test's output should know.
    description: str

    @abstractmethod
    def site(self, name: str, ports: tuple[str, ...] = ()) -> Site:
        """Give a machine its place; ``ports`` are its settings of ports, by key."""

    def cut(self, site: Site) -> None:
        """Cut a machine off from all others."""
        raise NotImplementedError(self.description)

    def mend(self, site: Site) -> None:
        """Connect it again."""
        raise NotImplementedError(self.description)

    @abstractmethod
    def close(self) -> None:
        """Take everything away again."""


class Loopback(Network):
    """All on 127.0.0.1."""

    description = "no network namespaces, which need root: machines share 127.0.0.1"

    def site(self, name: str, ports: tuple[str, ...] = ()) -> Site:
        return Site(name, "127.0.0.1", ports={key: free_port() for key in ports})

    def close(self) -> None:
        """There is nothing to take away."""


class Namespaces(Network):
    """Each machine in a network namespace, all on one switch, which the host is not on."""

    description = "network namespaces"

    def __init__(self) -> None:
        # Unlike any that another test makes at the same time.
        self._prefix = f"fd{secrets.token_hex(3)}"
        self._sites: list[Site] = []
        self.switch = f"{self._prefix}-switch"
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "bridge", "up")

    def site(self, name: str, ports: tuple[str, ...] = ()) -> Site:
        space, port = f"{self._prefix}-{name}", self.port_of(name)
        address = f"{_SUBNET}.{len(self._sites) + 1}"
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
        cable = ("type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("-n", self.switch, "link", "add", port, *cable)
        _ip("-n", self.switch, "link", "set", port, "master", "bridge")
        _ip("-n", self.switch, "link", "set", port, "up")
        _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        entry = ("nsenter", f"--net=/var/run/netns/{space}", "--")
        self._sites.append(Site(name, address, entry))
        return self._sites[-1]

    @property
    def at_the_switch(self) -> tuple[str, ...]:
        """What stands before a command that is to run where all packets pass."""
        return ("nsenter", f"--net=/var/run/netns/{self.switch}", "--")

    def port_of(self, name: str) -> str:
        """Return the switch's end of a machine's cable, as it is called in the switch's space."""
        return f"to-{name}"[:15]

    def cut(self, site: Site) -> None:
        _ip("-n", self.switch, "link", "set", self.port_of(site.name), "down")

    def mend(self, site: Site) -> None:
        _ip("-n", self.switch, "link", "set", self.port_of(site.name), "up")

    def close(self) -> None:
        for space in (*(f"{self._prefix}-{site.name}" for site in self._sites), self.switch):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", space)


def network() -> Network:
    """Give the best network that can be had here."""
    if os.geteuid() != 0:
        return Loopback()
    try:
        return Namespaces()
    except (OSError, subprocess.CalledProcessError):
        return Loopback()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
