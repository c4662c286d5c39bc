"""Accounts under a home that pay for what they send: the coordinator's, organizations'."""

from eth_account.signers.local import LocalAccount

from blockchain.keys import open_account
from blockchain.public_chain import PublicChain
from strategies.home import organization_folder
from strategies.organization_key import SIGNING, key_folder, signing_account
from strategies.run_chain import coordinator_account, paying_chain
from strategies.settings import RunSettings, SettingsError

#: Name of the coordinator's keystore.
COORDINATOR_KEY = "coordinator"


def organizations_with_keys(settings: RunSettings) -> list[str]:
    """Return the names of all organizations whose signing keys lie under the home, sorted."""
    folders = (settings.home_path / "organizations").glob(f"*/keys/{SIGNING}.json")
    return sorted(keystore.parents[1].name for keystore in folders)


def has_coordinator_key(settings: RunSettings) -> bool:
    """Whether the coordinator's key lies under the home."""
    return (settings.home_path / "chain" / "keys" / f"{COORDINATOR_KEY}.json").exists()


def organization_account(settings: RunSettings, organization: str) -> LocalAccount:
    """Open an organization's signing key, which must be there: none is made.

    Raises
    ------
    SettingsError
        If there is none.
    """
    if organization not in organizations_with_keys(settings):
        folder = key_folder(settings.home_path, organization)
        raise SettingsError(f"there is no signing key of {organization!r:.80} at {folder}")
    return signing_account(settings.home_path, organization)


def organization_chain(settings: RunSettings, chain: PublicChain, organization: str) -> PublicChain:
    """Return the chain on which an organization pays for what it sends."""
    account = organization_account(settings, organization)
    folder = organization_folder(settings.home_path, organization)
    return paying_chain(settings, chain, account, folder)


def coordinator_chain(settings: RunSettings, chain: PublicChain) -> PublicChain:
    """Return the chain on which the coordinator pays for what it sends; its key must be there."""
    if not has_coordinator_key(settings):
        raise SettingsError(
            f"there is no coordinator's key under {settings.home_path}: this is the coordinator's "
            "to do"
        )
    return chain.sent_by(coordinator_account(settings), settings.home_path / "chain")


def any_paying_chain(
    settings: RunSettings, chain: PublicChain, organization: str | None
) -> PublicChain:
    """Return the chain for what anyone may send: paid by the one named, else by who is here."""
    if organization is not None:
        return organization_chain(settings, chain, organization)
    if has_coordinator_key(settings):
        return coordinator_chain(settings, chain)
    here = organizations_with_keys(settings)
    if not here:
        raise SettingsError(f"there is no key under {settings.home_path} to pay with")
    return organization_chain(settings, chain, here[0])


def accounts_here(settings: RunSettings) -> dict[str, LocalAccount]:
    """Return every account under the home by name, the coordinator's among them."""
    found = {
        name: organization_account(settings, name) for name in organizations_with_keys(settings)
    }
    if has_coordinator_key(settings):
        found[COORDINATOR_KEY] = open_account(settings.home_path / "chain" / "keys")
    return found
