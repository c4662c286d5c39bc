"""What an organization's own machine is told: ``<home>/organizations/<name>/node.toml``."""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from client_app.deployment.commented_toml import (
    Configuration,
    read_configuration,
    write_commented,
)
from client_app.deployment.coordinator import Port
from strategies.home import organization_folder
from strategies.invitation import OrganizationName
from strategies.run_chain import AUTHORITY, DOOR_PATH
from strategies.settings import RunSettings

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_FILE: Final = "node.toml"
_DEFAULTS: Final = RunSettings()
_HEADING: Final = (
    "An organization's part in a federation on separate machines. Written by `foedus init "
    "organization` and `foedus join`; `foedus up` reads it, and has to be called again after a "
    "change."
)


class NodeConfiguration(Configuration):
    """The file, as it is read."""

    organization: OrganizationName = Field(description="Its name, as the coordinator invites it.")
    data: str = Field(
        "embedded",
        description="Its records: a .jsonl or .csv by absolute path, `hub:NAME`, or `embedded` for "
        "those that come with Foedus. They never leave this machine.",
    )
    coordinator: str = Field(
        "", description="Where the coordinator is reached, host and port; from the invitation."
    )
    chain_url: str = Field(
        "",
        description="Node of the chain that counts. Empty: the coordinator's, behind that address; "
        "an organization that trusts it less names another node of the same chain.",
    )
    chain_id: int = Field(0, ge=0, lt=2**63, description="The chain that counts.")
    bundles: list[Sha256] = Field(
        default_factory=list,
        description="SHA-256 of the applications that may run here: no other is started, whatever "
        "the coordinator hands out. `foedus join` writes that of the Foedus installed here.",
    )
    runtime_port: Port = Field(
        9101, description="Where Flower's SuperNode talks to its own processes, on this machine."
    )
    participation: Annotated[str, Field(pattern="^(learn|evaluate|always)$")] = Field(
        _DEFAULTS.participation,
        description="Whether its agent decides about rounds: `learn`, `evaluate` or `always`.",
    )
    token_price: int = Field(
        _DEFAULTS.token_price, ge=1, description="What a token processed costs it, in gwei."
    )
    token_budget: int = Field(
        _DEFAULTS.token_budget,
        ge=0,
        description="Tokens that it may spend in an epoch of rounds; 0: any number.",
    )
    budget_epoch: int = Field(
        _DEFAULTS.budget_epoch, ge=1, description="Rounds that `token-budget` is for."
    )
    anchor_interval: int = Field(
        _DEFAULTS.anchor_interval,
        ge=0,
        description="Rounds after which it anchors its ledger on the chain, as at a run's end; "
        "0: never.",
    )

    @property
    def url(self) -> str:
        """Of the chain's node."""
        return self.chain_url or f"https://{self.coordinator}{DOOR_PATH}"

    def reading(self, home: Path) -> dict[str, Any]:
        """Return the settings by which the organization reads the chain, under their keys."""
        return {
            "home": str(home),
            "min-organizations": 1,
            "chain-url": self.url,
            "chain-id": self.chain_id,
        }

    def node_config(self, home: Path) -> dict[str, Any]:
        """Return what the SuperNode hands to the application."""
        return {
            "organization": self.organization,
            "home": str(home),
            "chain-url": self.url,
            "data": self.data,
            "participation": self.participation,
            "token-price": self.token_price,
            "token-budget": self.token_budget,
            "budget-epoch": self.budget_epoch,
            "anchor-interval": self.anchor_interval,
        }


def node_path(home: Path, organization: str) -> Path:
    """Return where the file lies."""
    return organization_folder(home, organization) / _FILE


def node_key_folder(home: Path, organization: str) -> Path:
    """Return where the key of its node lies."""
    return organization_folder(home, organization) / "node"


def authority_path(home: Path) -> Path:
    """Return where the certificate of the coordinator's authority lies."""
    return home / "chain" / AUTHORITY


def organizations_here(home: Path) -> list[str]:
    """Return the organizations whose nodes this machine runs, by name."""
    return sorted(path.parent.name for path in (home / "organizations").glob(f"*/{_FILE}"))


def write_node(home: Path, configuration: NodeConfiguration) -> Path:
    """Write the file; return its path."""
    path = node_path(home, configuration.organization)
    write_commented(path, configuration, _HEADING)
    return path


def read_node(home: Path, organization: str) -> NodeConfiguration:
    """Read the file.

    Raises
    ------
    ConfigurationError
        If it is missing or malformed.
    """
    return read_configuration(node_path(home, organization), NodeConfiguration)
