"""An organization's signing key replaced, on the chain and on disk, whatever is killed in between.

::

    <home>/organizations/<name>/keys/
        signing.json, signing.passphrase                the key that signs
        signing.next.json, signing.next.passphrase      the one to be, while a rotation is under way
        signing.<address>.json, ....passphrase          those that were

The new key is on disk before the chain hears of it, and takes the old one's place only once the
transaction is confirmed. So whatever the chain says the key is, its keystore is here. A rotation
that was killed goes on where it was, at the next `rotate`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock

from blockchain.durable_file import sync_folder, write_durably
from blockchain.errors import TransactionRevertedError
from blockchain.keys import account_address, open_account
from blockchain.membership import NO_ACCOUNT
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from strategies.home import organization_folder
from strategies.organization_key import SIGNING, key_folder
from strategies.run_accounts import organization_account
from strategies.run_chain import paying_chain
from strategies.settings import RunSettings

#: Name of the keystore that is to be the signing one.
NEXT: Final = f"{SIGNING}.next"

_SIGNATURE_SECONDS: Final = 600
_PRIVATE: Final = 0o600


class RotationError(RuntimeError):
    """The key on the chain is none that lies here, or the organization is no member."""


@dataclass(frozen=True)
class Rotation:
    """A key that was replaced.

    Parameters
    ----------
    organization : str
        Whose.
    old, new : str
        Addresses of the key that was, and of the one that signs from now on.
    transaction : bytes or None
        Of the rotation; ``None`` where an earlier, killed one had put it on the chain.
    """

    organization: str
    old: str
    new: str
    transaction: bytes | None


def rotate(settings: RunSettings, chain: PublicChain, organization: str) -> Rotation:
    """Replace an organization's signing key, or finish a rotation that was killed.

    Parameters
    ----------
    settings : RunSettings
        Name home and chain.
    chain : PublicChain
        A connection that can read.
    organization : str
        Whose key; it pays for the transaction from the old key's account.

    Raises
    ------
    RotationError
        See there.
    SettingsError
        If there is no signing key here.
    ChainError
        If the transaction does not land. Nothing is replaced then, and `rotate` goes on from there.
    """
    folder = key_folder(settings.home_path, organization)
    who = organization_id(organization)
    if not (folder / f"{SIGNING}.json").exists():
        # Says so in words, and makes none.
        organization_account(settings, organization)
    with FileLock(folder / "rotation.lock"):
        registered = chain.members.key_of(who)
        if registered == NO_ACCOUNT:
            raise RotationError(f"{organization} is no member: there is no key to replace")
        if pending(folder) == registered:
            return Rotation(organization, _swap(folder), registered, None)
        old = organization_account(settings, organization)
        if old.address != registered:
            raise RotationError(
                f"the key of {organization} on the chain is {registered}, the one here "
                f"{old.address}: only its holder can replace it"
            )
        new = open_account(folder, NEXT)
        paying = paying_chain(
            settings, chain, old, organization_folder(settings.home_path, organization)
        )
        transaction = None
        try:
            deadline = chain.now() + _SIGNATURE_SECONDS
            transaction = paying.members.rotate_key(who, old, new, deadline).hash
        except TransactionRevertedError:
            # What a killed rotation had sent may have landed since: then there is none to make.
            if chain.members.key_of(who) != new.address:
                raise
        _swap(folder)
        return Rotation(organization, old.address, new.address, transaction)


def pending(folder: Path) -> str | None:
    """Return the address of the key that a rotation under way is to end with, if there is one."""
    return account_address(folder, NEXT) if (folder / f"{NEXT}.json").exists() else None


def _swap(folder: Path) -> str:
    """Make the next keystore the signing one, and keep the old; return the old key's address.

    Keystore and passphrase are two files and cannot be replaced at once. The keystore goes last,
    and the next one is there until then, so that a kill at any point finds this to do again.
    """
    old = account_address(folder, SIGNING)
    kept = f"{SIGNING}.{old}"
    if not (folder / f"{kept}.json").exists():
        # The keystore after its passphrase: once it is there, both are.
        _copy(folder, f"{SIGNING}.passphrase", f"{kept}.passphrase")
        _copy(folder, f"{SIGNING}.json", f"{kept}.json")
    _copy(folder, f"{NEXT}.passphrase", f"{SIGNING}.passphrase")
    (folder / f"{NEXT}.json").replace(folder / f"{SIGNING}.json")
    sync_folder(folder)
    (folder / f"{NEXT}.passphrase").unlink(missing_ok=True)
    return old


def _copy(folder: Path, source: str, target: str) -> None:
    write_durably(folder / target, (folder / source).read_bytes(), _PRIVATE)
