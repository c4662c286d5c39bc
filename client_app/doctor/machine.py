"""The machine that is looked at: what it was told, and what several checks ask for, asked once."""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from web3 import Web3

from blockchain.chain_settings import ChainSettings
from blockchain.connection import connect_node
from blockchain.deployment import Deployment, connect_deployed, read_deployment
from blockchain.errors import ContractMissingError
from blockchain.private.audit import audit
from blockchain.private.files import LEDGER_FILE
from blockchain.private.history import History
from blockchain.public_chain import PublicChain
from client_app.deployment.coordinator import (
    CoordinatorConfiguration,
    certificates,
    read_coordinator,
)
from client_app.deployment.door import Door
from client_app.deployment.node import NodeConfiguration, authority_path, read_node
from strategies.federation_word import FederationWord
from strategies.home import cache_folder, ledger_folder
from strategies.run_chain import chain_settings
from strategies.settings import RunSettings

#: Stands for the application of a run on separate machines, where it does not matter which it is:
#: without one, settings are checked as a simulation's.
_SOME_BUNDLE = "0" * 64


@dataclass(frozen=True)
class Told:
    """What the door said, and when.

    Parameters
    ----------
    word : FederationWord
        What it said.
    asked, answered : float
        This machine's clock before and after, seconds since the epoch.
    """

    word: FederationWord
    asked: float
    answered: float


@dataclass(frozen=True)
class Machine:
    """A coordinator's or an organization's machine.

    Parameters
    ----------
    home : Path
        Its home.
    organization : str or None
        The organization; None on a coordinator's machine.
    """

    home: Path
    organization: str | None = None

    @property
    def name(self) -> str:
        """The organization's name, on the machine of one."""
        if self.organization is None:
            raise ValueError("the coordinator's machine was asked for its organization")
        return self.organization

    @cached_property
    def coordinator(self) -> CoordinatorConfiguration:
        """What a coordinator's machine was told; `ConfigurationError` where that is malformed."""
        return read_coordinator(self.home)

    @cached_property
    def node(self) -> NodeConfiguration:
        """What an organization's machine was told; `ConfigurationError` where it is malformed."""
        return read_node(self.home, self.name)

    @cached_property
    def settings(self) -> RunSettings:
        """Settings that follow from what the machine was told; `SettingsError` where none do."""
        return self._settings({})

    @cached_property
    def run_settings(self) -> RunSettings:
        """Settings of runs, with what the coordinator says of them.

        An organization learns from the coordinator how its rows are read and which model is
        trained.
        """
        return self._settings({} if self.organization is None else self.told.word.run)

    @property
    def managed(self) -> bool:
        """Whether the chain's node is the coordinator's own."""
        if self.organization is None:
            return self.coordinator.managed
        return not self.node.chain_url

    @property
    def address(self) -> str:
        """Where this machine reaches the door, host and port."""
        if self.organization is None:
            return f"127.0.0.1:{self.coordinator.port}"
        return self.node.coordinator

    @property
    def authority(self) -> Path:
        """The kept certificate of the coordinator's authority."""
        if self.organization is None:
            return certificates(self.home).authority
        return authority_path(self.home)

    @property
    def cache(self) -> Path:
        """Where models and data are cached."""
        return cache_folder(self.home)

    @cached_property
    def door(self) -> Door:
        """The coordinator's door, as this machine reaches it."""
        return Door.of(self.address, self.authority)

    @cached_property
    def told(self) -> Told:
        """What the door says of the federation, read and checked."""
        asked = time.time()
        answer = self.door.federation()
        return Told(FederationWord.read(answer), asked, time.time())

    @cached_property
    def chain_settings(self) -> ChainSettings:
        """Node and chain."""
        return chain_settings(self.settings)

    @cached_property
    def chain_node(self) -> Web3:
        """A connection to the chain's node, which serves the configured chain."""
        return connect_node(self.chain_settings)

    @cached_property
    def deployment(self) -> Deployment:
        """The kept record of the contracts."""
        kept = read_deployment(self.home / "chain")
        if kept is None or not kept.is_complete:
            raise ContractMissingError(f"{self.home / 'chain'} holds no record of all contracts")
        return kept

    @cached_property
    def chain(self) -> PublicChain:
        """The contracts, found sound, to read."""
        return connect_deployed(self.chain_settings, self.home / "chain")

    @cached_property
    def ledger(self) -> History | None:
        """The organization's ledger, rebuilt from its records; None before there is one.

        `LedgerError` where it does not hold.
        """
        folder = ledger_folder(self.home, self.name)
        return audit(folder).history if (folder / LEDGER_FILE).exists() else None

    def _settings(self, told: dict[str, str]) -> RunSettings:
        if self.organization is None:
            config = {**self.coordinator.run_config(self.home), "bundle": _SOME_BUNDLE}
            return RunSettings.from_run_config(config)
        own: dict[str, Any] = self.node.node_config(self.home)
        del own["organization"]
        if self.node.coordinator:
            own["chain-id"] = self.node.chain_id
        else:
            # Which chain counts stands in the invitation.
            del own["chain-url"]
        return RunSettings.from_run_config(
            {**told, **own, "organizations": self.name, "min-organizations": 1}
        )
