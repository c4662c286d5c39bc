"""An organization's signing key, in its own folder and nowhere else."""

from pathlib import Path
from typing import Final

from eth_account.signers.local import LocalAccount

from blockchain.keys import account_address, open_account
from strategies.home import organization_folder

#: Name of the keystore.
SIGNING: Final = "signing"


def key_folder(home: Path, organization: str) -> Path:
    """Return where an organization's keystores lie."""
    return organization_folder(home, organization) / "keys"


def signing_account(home: Path, organization: str) -> LocalAccount:
    """Open an organization's signing key, making it the first time; once a process."""
    return open_account(key_folder(home, organization), SIGNING)


def signing_address(home: Path, organization: str) -> str:
    """Return the address of an organization's signing key, without opening it."""
    return account_address(key_folder(home, organization), SIGNING)
