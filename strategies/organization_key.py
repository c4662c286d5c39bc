"""An organization's keys, in its own folder and nowhere else."""

from pathlib import Path
from typing import Final

from eth_account.signers.local import LocalAccount

from blockchain.keys import account_address, open_account
from strategies.home import organization_folder

#: Names of the keystores: the organization's own, and its data protection officer's.
SIGNING: Final = "signing"
OFFICER: Final = "officer"


def key_folder(home: Path, organization: str) -> Path:
    """Return where an organization's keystores lie."""
    return organization_folder(home, organization) / "keys"


def signing_account(home: Path, organization: str) -> LocalAccount:
    """Open an organization's signing key, making it the first time; once a process."""
    return open_account(key_folder(home, organization), SIGNING)


def signing_address(home: Path, organization: str) -> str:
    """Return the address of an organization's signing key, without opening it."""
    return account_address(key_folder(home, organization), SIGNING)


def officer_account(home: Path, organization: str) -> LocalAccount:
    """Open the data protection officer's key, making it the first time; once a process.

    In a simulation it lies beside the organization's own. Where the officer is to be somebody else,
    a key of theirs takes its place in the ledger (``foedus ledger members``).
    """
    return open_account(key_folder(home, organization), OFFICER)
