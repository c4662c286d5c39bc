"""The public chain that a run's settings name, for whoever reads and for the one who writes."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from eth_account.signers.local import LocalAccount

from blockchain.chain_records import DisputeTerms
from blockchain.chain_settings import ChainSettings
from blockchain.deployment import connect_deployed, deploy
from blockchain.keys import fund_from_development_account, open_account
from blockchain.managed_node import ManagedNode
from blockchain.public_chain import PublicChain
from strategies import deployed_members, simulated_members
from strategies.rewards import RewardTerms
from strategies.settings import RunSettings

MANAGED = "managed"

#: How long a run waits for a chain's node that is gone, and its organizations with it. Commands
#: that people wait for do not.
OUTAGE_SECONDS: Final = 180.0

#: Beside the record of the contracts: who issued the certificate of the coordinator's door.
AUTHORITY = "ca.pem"
#: Where the chain's node is found behind that door. Any other node shows a certificate that the
#: system trusts.
DOOR_PATH: Final = "/chain"


def chain_settings(settings: RunSettings, *, patient: bool = False) -> ChainSettings:
    """Return node and chain of a run; the patient wait where the node is gone for a while."""
    outage = OUTAGE_SECONDS if patient else 0.0
    if settings.chain_url == MANAGED:
        return managed_node(settings).settings.model_copy(update={"outage_seconds": outage})
    authority = settings.home_path / "chain" / AUTHORITY
    given = {
        "rpc_url": settings.chain_url,
        "chain_id": settings.chain_id,
        "outage_seconds": outage,
    }
    if authority.exists() and urlsplit(settings.chain_url).path == DOOR_PATH:
        given["authority"] = authority
    return ChainSettings.model_validate(given)


def managed_node(settings: RunSettings) -> ManagedNode:
    """Return the managed node of the run's home."""
    return ManagedNode(settings.home_path, settings.chain_port or None)


def coordinator_account(settings: RunSettings) -> LocalAccount:
    """Open the coordinator's account, making it the first time; once a process."""
    return open_account(settings.home_path / "chain" / "keys")


def dispute_terms(settings: RunSettings) -> DisputeTerms:
    """Return windows and bond of a run's challenges."""
    return DisputeTerms(
        challenge_window=settings.challenge_window,
        response_window=settings.response_window,
        bond=settings.challenge_bond * 10**9,
    )


def fund_rewards(chain: PublicChain, task: bytes, settings: RunSettings) -> int:
    """Give a task's pool all that its rounds can pay at most.

    Returns
    -------
    int
        Gas that this used, also in an earlier attempt at the run.
    """
    chain.rewards.fund(task, settings.own_rounds * RewardTerms.of(settings).pool)
    return chain.rewards.funding_gas(task, chain.task(task).opened_block)


def open_writing_chain(settings: RunSettings, *, patient: bool = False) -> PublicChain:
    """Return the chain with the coordinator's key; start, fund and deploy where that is missing.

    In a simulation organizations of the run that are no members yet become members, by the keys
    under its home. On separate machines they found the registry together, once all have joined.

    Raises
    ------
    ChainError
        If the node does not answer, serves another chain, or its contracts are gone.
    MembersError
        If an organization on a machine of its own has not joined.
    """
    folder = settings.home_path / "chain"
    managed = settings.chain_url == MANAGED
    if managed:
        managed_node(settings).start()
    node = chain_settings(settings, patient=patient)
    account = coordinator_account(settings)
    if managed:
        fund_from_development_account(node, account.address, folder)
    founding = deployed_members.founding if settings.bundle else simulated_members.founding
    deploy(node, account, folder, lambda: founding(settings, account.address), managed=managed)
    chain = connect_deployed(node, folder, account)
    if not settings.bundle:
        simulated_members.admit_missing(settings, chain)
    elif managed:
        # They pay for their own anchors and claims, and could not buy what they pay with.
        for address in deployed_members.paying_keys(settings.home_path, chain):
            fund_from_development_account(node, address, folder)
    return chain


def open_reading_chain(settings: RunSettings, *, patient: bool = False) -> PublicChain:
    """Return the chain without a key: what an organization checks the coordinator against."""
    node = chain_settings(settings, patient=patient)
    return connect_deployed(node, settings.home_path / "chain")


def paying_chain(
    settings: RunSettings, chain: PublicChain, account: LocalAccount, folder: Path
) -> PublicChain:
    """Return the chain for an organization that pays for transactions of its own.

    On the managed chain its account is given funds; elsewhere it must have them.

    Parameters
    ----------
    settings : RunSettings
        Name the chain.
    chain : PublicChain
        The contracts, as the organization reads them.
    account : LocalAccount
        The organization's.
    folder : Path
        Folder of the account's lock file.
    """
    if settings.chain_url == MANAGED:
        node = chain_settings(settings)
        fund_from_development_account(node, account.address, settings.home_path / "chain")
    return chain.sent_by(account, folder)
