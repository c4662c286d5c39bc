"""What a coordinator on a machine of its own is told: ``<home>/coordinator/coordinator.toml``."""

from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from blockchain.chain_settings import DEVELOPMENT_CHAIN_ID
from client_app.deployment.certificates import Certificates
from client_app.deployment.commented_toml import (
    Configuration,
    read_configuration,
    write_commented,
)
from strategies.deployed_members import coordinator_folder
from strategies.invitation import OrganizationName
from strategies.run_chain import MANAGED

Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]

_HEADING: Final = (
    "The coordinator of a federation on separate machines. Written by `foedus init coordinator`; "
    "`foedus up` reads it, and has to be called again after a change."
)


class CoordinatorConfiguration(Configuration):
    """The file, as it is read."""

    organizations: list[OrganizationName] = Field(
        min_length=1, description="Who takes part, by name; each is invited."
    )
    addresses: list[Host] = Field(
        min_length=1,
        description="Host names or IP addresses of this machine as organizations reach it; the "
        "first stands in the invitations. The certificate is renewed where one is added.",
    )
    port: Port = Field(
        9443, description="The one port that has to be open to them: SuperLink and chain behind it."
    )
    listen: Host = Field("0.0.0.0", description="Address that the port is opened at.")  # noqa: S104
    superlink_port: Port = Field(
        9100,
        description="Where Flower's SuperLink listens, for this machine alone: whoever reaches it "
        "can start runs.",
    )
    chain_url: str = Field(
        MANAGED,
        description="`managed`: a development node on this machine, behind the port above; its "
        "history is tamper-evident to who kept its blocks' hashes, not trustless. Or the URL of an "
        "Ethereum node that organizations reach as well.",
    )
    chain_port: Port = Field(8545, description="Of the managed node, for this machine alone.")
    chain_id: int = Field(
        DEVELOPMENT_CHAIN_ID, ge=1, lt=2**63, description="The chain that counts."
    )
    run: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="Settings of runs that differ from their defaults, such as rounds = 12; the "
        "README lists them. `foedus run` takes others with -c.",
    )

    @model_validator(mode="after")
    def _they_go_together(self) -> Self:
        if len(set(self.organizations)) < len(self.organizations):
            raise ValueError("an organization is named twice")
        ports = [self.port, self.superlink_port]
        if self.chain_url == MANAGED:
            ports.append(self.chain_port)
            if self.chain_id != DEVELOPMENT_CHAIN_ID:
                raise ValueError(f"the managed node's chain id is {DEVELOPMENT_CHAIN_ID}")
        if len(set(ports)) < len(ports):
            raise ValueError("two of the ports are the same")
        return self

    @property
    def address(self) -> str:
        """Where organizations reach it: host and port."""
        host = self.addresses[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def managed(self) -> bool:
        """Whether the chain's node runs here."""
        return self.chain_url == MANAGED

    def run_config(self, home: Path) -> dict[str, Any]:
        """Return the settings of runs that follow from this, under their keys."""
        return {
            **self.run,
            "home": str(home),
            "organizations": ",".join(self.organizations),
            "chain-url": self.chain_url,
            "chain-id": self.chain_id,
            **({"chain-port": self.chain_port} if self.managed else {}),
        }


def configuration_path(home: Path) -> Path:
    """Return where the file lies."""
    return coordinator_folder(home) / "coordinator.toml"


def certificates(home: Path) -> Certificates:
    """Return where its certificates lie."""
    return Certificates(coordinator_folder(home) / "tls")


def write_configuration(home: Path, configuration: CoordinatorConfiguration) -> Path:
    """Write the file; return its path."""
    path = configuration_path(home)
    write_commented(path, configuration, _HEADING)
    return path


def read_coordinator(home: Path) -> CoordinatorConfiguration:
    """Read the file.

    Raises
    ------
    ConfigurationError
        If it is missing or malformed.
    """
    return read_configuration(configuration_path(home), CoordinatorConfiguration)
