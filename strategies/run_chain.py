"""The public chain that a run's settings name, for whoever reads and for the one who writes."""

from blockchain.connection import ChainSettings
from blockchain.deployment import connect_deployed, deploy
from blockchain.keys import fund_from_development_node, open_account
from blockchain.managed_node import ManagedNode
from blockchain.public_chain import PublicChain
from strategies.settings import RunSettings

MANAGED = "managed"


def chain_settings(settings: RunSettings) -> ChainSettings:
    """Return node and chain of a run."""
    url = settings.chain_url
    if url == MANAGED:
        url = f"http://127.0.0.1:{settings.chain_port}"
    return ChainSettings.model_validate({"rpc_url": url, "chain_id": settings.chain_id})


def open_writing_chain(settings: RunSettings) -> PublicChain:
    """Return the chain with the coordinator's key; start, fund and deploy where that is missing.

    Raises
    ------
    ChainError
        If the node does not answer, serves another chain, or its contracts are gone.
    """
    node = chain_settings(settings)
    folder = settings.home_path / "chain"
    managed = settings.chain_url == MANAGED
    if managed:
        ManagedNode(settings.home_path, settings.chain_port).start()
    account = open_account(folder / "keys")
    if managed:
        fund_from_development_node(node, account.address)
    deploy(node, account, folder, managed=managed)
    return connect_deployed(node, folder, account)


def open_reading_chain(settings: RunSettings) -> PublicChain:
    """Return the chain without a key: what an organization checks the coordinator against."""
    return connect_deployed(chain_settings(settings), settings.home_path / "chain")
