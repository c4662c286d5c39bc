"""A connection to an EVM node, checked before it is used."""

from typing import Annotated, Final
from urllib.parse import urlsplit, urlunsplit

import requests
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, UrlConstraints
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.providers.rpc.utils import ExceptionRetryConfiguration

from blockchain.errors import NodeUnreachableError, WrongChainError

#: Chain id of Hardhat's development node.
DEVELOPMENT_CHAIN_ID: Final = 31337

# Calls that change nothing and may be asked again. Transactions are not among them: whoever sends
# one looks first whether it landed.
_RETRIED: Final = (
    "eth_chainId", "eth_blockNumber", "eth_getBalance", "eth_getCode", "eth_getBlockByNumber",
    "eth_getBlockByHash", "eth_getTransactionByHash", "eth_getTransactionReceipt",
    "eth_getTransactionCount", "eth_call", "eth_estimateGas", "eth_maxPriorityFeePerGas",
    "eth_gasPrice", "eth_getLogs",
)  # fmt: skip


class ChainSettings(BaseModel):
    """Which chain to use, and how patiently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpc_url: Annotated[AnyHttpUrl, UrlConstraints(max_length=2048)] = Field(
        default=AnyHttpUrl("http://127.0.0.1:8545"), description="Address of the node's JSON-RPC."
    )
    chain_id: int = Field(default=DEVELOPMENT_CHAIN_ID, ge=1, lt=2**63)
    confirmations: int = Field(
        default=1, ge=1, le=1000, description="Blocks, its own included, before a receipt counts."
    )
    request_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    receipt_timeout_seconds: float = Field(default=120.0, gt=0, le=86400)
    gas_limit_cap: int = Field(
        default=3_000_000, ge=21_000, description="No transaction may ask for more gas than this."
    )

    @property
    def shown_url(self) -> str:
        """Address without what may be secret in it: user, password, path and query."""
        url = urlsplit(str(self.rpc_url))
        return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], "", "", ""))


def connect_node(settings: ChainSettings) -> Web3:
    """Connect to the node and make sure that it serves the configured chain.

    The connection belongs to the process that made it: each process connects for itself.

    Raises
    ------
    NodeUnreachableError
        Nothing answers there, or not as an Ethereum node does.
    WrongChainError
        The node serves another chain.
    """
    provider = HTTPProvider(
        str(settings.rpc_url),
        request_kwargs={"timeout": settings.request_timeout_seconds},
        exception_retry_configuration=ExceptionRetryConfiguration(
            errors=[requests.ConnectionError, requests.Timeout],
            retries=3,
            backoff_factor=0.1,
            method_allowlist=_RETRIED,
        ),
    )
    node = Web3(provider)
    try:
        chain_id = node.eth.chain_id
    except (requests.RequestException, Web3Exception, ValueError) as error:
        # What answers may also be no Ethereum node at all, but a web page.
        raise unreachable(settings, error) from error
    if chain_id != settings.chain_id:
        raise WrongChainError(
            f"the node at {settings.shown_url} serves chain {chain_id}, expected "
            f"{settings.chain_id}: check the RPC address and the chain id"
        )
    return node


def unreachable(settings: ChainSettings, error: Exception) -> NodeUnreachableError:
    """Say that the node did not answer; the library's own text may hold the address' secrets."""
    return NodeUnreachableError(
        f"no Ethereum node answers at {settings.shown_url} ({type(error).__name__}): "
        "start it (`foedus chain start` for the managed one) or check the address"
    )
