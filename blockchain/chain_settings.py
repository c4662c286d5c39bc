"""Which chain, by whose node, and how patiently; checked without connecting."""

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit, urlunsplit

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, UrlConstraints

#: Chain id of Hardhat's development node.
DEVELOPMENT_CHAIN_ID: Final = 31337


class ChainSettings(BaseModel):
    """Which chain to use, and how patiently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpc_url: Annotated[AnyHttpUrl, UrlConstraints(max_length=2048)] = Field(
        default=AnyHttpUrl("http://127.0.0.1:8545"), description="Address of the node's JSON-RPC."
    )
    chain_id: int = Field(default=DEVELOPMENT_CHAIN_ID, ge=1, lt=2**63)
    authority: Path | None = Field(
        default=None,
        description="Certificate, in PEM, of the authority that the node's own was issued by; "
        "absent: any that the system trusts.",
    )
    confirmations: int = Field(
        default=1, ge=1, le=1000, description="Blocks, its own included, before a receipt counts."
    )
    request_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    outage_seconds: float = Field(
        default=0.0,
        ge=0,
        le=86400,
        description="How long to wait for a node that is gone; what it says by itself is an error "
        "at once.",
    )
    receipt_timeout_seconds: float = Field(default=120.0, gt=0, le=86400)
    gas_limit_cap: int = Field(
        default=8_000_000, ge=21_000, description="No transaction may ask for more gas than this."
    )
    low_balance_transactions: int = Field(
        default=50,
        ge=0,
        description="Warn when the balance covers fewer transactions than this; 0: never.",
    )
    event_range_blocks: int = Field(
        default=1000, ge=1, le=100_000, description="Blocks asked for events at once, at most."
    )

    @property
    def shown_url(self) -> str:
        """Address without what may be secret in it: user, password, path and query."""
        return without_secrets(str(self.rpc_url))


def without_secrets(address: str) -> str:
    """Keep of a URL its scheme, host and port: the rest may hold a password or an access key."""
    url = urlsplit(address)
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], "", "", ""))
