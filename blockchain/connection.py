"""A connection to an EVM node, checked before it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception

from blockchain.chain_settings import ChainSettings, without_secrets
from blockchain.errors import ChainError, NodeUnreachableError, WrongChainError
from blockchain.reverts import nodes_words

#: Tries at a node that does not answer, where no longer outage is to be waited for.
_TRIES: Final = 3
#: Tries at one that breaks off in the middle of an answer.
_READ_TRIES: Final = 3
_PAUSE_FACTOR: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
#: What a proxy says while the node behind it is gone.
_GONE: Final = (502, 503, 504)


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
        request_kwargs={
            "timeout": settings.request_timeout_seconds,
            "verify": True if settings.authority is None else str(settings.authority),
        },
        session=_patient_session(settings.outage_seconds),
        # The session asks again, with pauses that do not grow for ever.
        exception_retry_configuration=None,
        # web3 asks for it before every call; a connection serves one chain for as long as it lasts.
        cache_allowed_requests=True,
        cacheable_requests={"eth_chainId"},
        request_cache_validation_threshold=None,
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


def _patient_session(outage_seconds: float) -> requests.Session:
    """Return a session that asks again while nobody answers, a transaction included.

    The same transaction's bytes count only once; whoever sends one looks first whether an earlier
    try landed (:mod:`blockchain.delivery`).
    """
    tries = _TRIES + round(outage_seconds / _LONGEST_PAUSE_SECONDS)
    retry = Retry(
        total=tries + _READ_TRIES,
        connect=tries,
        status=tries,
        read=_READ_TRIES,
        other=0,
        backoff_factor=_PAUSE_FACTOR,
        backoff_max=_LONGEST_PAUSE_SECONDS,
        status_forcelist=_GONE,
        allowed_methods=None,
        # How long is waited is ours to say: who answers may name a day.
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def genesis_hash(node: Web3, settings: ChainSettings) -> str:
    """Hash of the chain's first block, ``0x`` and hexadecimal: it names one life of a chain."""
    try:
        return "0x" + bytes(node.eth.get_block(0)["hash"]).hex()
    except requests.RequestException as error:
        raise unreachable(settings, error) from error


def unreachable(settings: ChainSettings, error: Exception) -> NodeUnreachableError:
    """Say that the node did not answer; the library's own text may hold the address' secrets."""
    return _unreachable(settings.shown_url, error)


@contextmanager
def answers_of(node: Web3, asked: str) -> Iterator[None]:
    """Turn what goes wrong while asking the node into errors of ours.

    Parameters
    ----------
    node : Web3
        The connection asked.
    asked : str
        What for, for messages.

    Raises
    ------
    NodeUnreachableError
        The node did not answer.
    ChainError
        It answered with an error, or with something that is no answer.
    """
    try:
        yield
    except requests.RequestException as error:
        provider = cast(HTTPProvider, node.provider)
        raise _unreachable(without_secrets(str(provider.endpoint_uri)), error) from error
    except Web3Exception as error:
        raise ChainError(
            f"{asked}: the node answered with an error: {nodes_words(error)}"
        ) from error


def _unreachable(place: str, error: Exception) -> NodeUnreachableError:
    return NodeUnreachableError(
        f"no Ethereum node answers at {place} ({type(error).__name__}): "
        "start it (`foedus chain start` for the managed one) or check the address"
    )
