"""The account that signs: a random key in a scrypt keystore, opened once a process."""

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Final

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from filelock import FileLock
from web3.types import Wei

from blockchain.chain_settings import DEVELOPMENT_CHAIN_ID, ChainSettings
from blockchain.connection import connect_node, unreachable
from blockchain.durable_file import write_durably
from blockchain.errors import KeyFileError, TransactionFailedError
from blockchain.sender import Sender

_PRIVATE: Final = 0o600

# eth-account writes n = 2**18, r = 8, p = 1. It also opens files with n = 2; and a file with a
# huge n would take all memory before it fails.
_SCRYPT_BOUNDS: Final = {"n": (2**17, 2**20), "r": (8, 16), "p": (1, 16), "dklen": (32, 32)}

_ENOUGH_WEI: Final = 10**18
_FUNDS_WEI: Final = Wei(100 * 10**18)
#: Of the first account of every Hardhat chain, as its documentation prints it. No secret.
_DEVELOPMENT_KEY: Final = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


def open_account(folder: Path, name: str = "coordinator") -> LocalAccount:
    """Open the account `name` in `folder`, making it with a fresh random key the first time.

    The keystore is ``<name>.json`` and its passphrase ``<name>.passphrase``, both readable by
    their owner alone. They protect each other only as far as one is kept apart from the other.

    Raises
    ------
    KeyFileError
        A file is missing, readable by others, weakly encrypted, or does not open.
    """
    keystore, passphrase = folder / f"{name}.json", folder / f"{name}.passphrase"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(folder / f"{name}.lock"):
        if not keystore.exists():
            _create(keystore, passphrase)
    return _decrypted(_read_private(keystore), _read_private(passphrase), str(keystore))


def account_address(folder: Path, name: str) -> str:
    """Return the address that the keystore of the account `name` states, making it if need be.

    Without its passphrase, and so without proof: whoever relies on it opens the account.

    Raises
    ------
    KeyFileError
        The keystore is readable by others, or is none.
    """
    keystore = folder / f"{name}.json"
    if not keystore.exists():
        return str(open_account(folder, name).address)
    try:
        return str(to_checksum_address(json.loads(_read_private(keystore))["address"]))
    except (ValueError, TypeError, KeyError) as error:
        raise KeyFileError(f"{keystore} is no keystore: it states no address") from error


def fund_from_development_account(settings: ChainSettings, address: str, lock_folder: Path) -> None:
    """Give `address` 100 ether of the development chain, unless it still has one.

    They come from the chain's first account, whose key is public: nothing on such a chain is
    worth anything.

    Parameters
    ----------
    settings : ChainSettings
        The development chain.
    address : str
        Who is given.
    lock_folder : Path
        Folder of the giving account's lock file (see :class:`blockchain.sender.Sender`).

    Raises
    ------
    TransactionFailedError
        The chain is not the development chain, or the transaction did not land.
    NodeUnreachableError
        Nothing answers.
    """
    if settings.chain_id != DEVELOPMENT_CHAIN_ID:
        raise TransactionFailedError(
            f"{address} can be funded on the development chain {DEVELOPMENT_CHAIN_ID} only, not "
            f"on chain {settings.chain_id}: send it some of that chain's currency"
        )
    node = connect_node(settings)
    payee = to_checksum_address(address)
    try:
        if node.eth.get_balance(payee) >= _ENOUGH_WEI:
            return
    except requests.RequestException as error:
        raise unreachable(settings, error) from error
    giver: LocalAccount = Account.from_key(_DEVELOPMENT_KEY)
    Sender(node, settings, giver, lock_folder).send(
        f"funding of {payee}", {"to": payee, "value": _FUNDS_WEI}
    )


def _create(keystore: Path, passphrase: Path) -> None:
    secret = secrets.token_urlsafe(32)
    # eth-account mixes the system's randomness with what it is given.
    account = Account.create()
    content = json.dumps(account.encrypt(secret))
    write_durably(passphrase, secret, _PRIVATE)
    write_durably(keystore, content, _PRIVATE)
    # What was just encrypted need not be decrypted.
    _opened[content, secret] = account


def _decrypted(keystore: str, passphrase: str, path: str) -> LocalAccount:
    try:
        return _account_in(keystore, passphrase)
    except _WeakKeystoreError as error:
        raise KeyFileError(f"{path}{error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise KeyFileError(f"{path} is no keystore that its passphrase file opens") from error


class _WeakKeystoreError(Exception):
    """What is said of the file after its path."""


#: Accounts by keystore and passphrase: opening one takes half a second of scrypt, hence once for
#: each content, wherever it lies.
_opened: dict[tuple[str, str], LocalAccount] = {}


def _account_in(keystore: str, passphrase: str) -> LocalAccount:
    if (keystore, passphrase) not in _opened:
        document = json.loads(keystore)
        _check_strength(document)
        _opened[keystore, passphrase] = Account.from_key(Account.decrypt(document, passphrase))
    return _opened[keystore, passphrase]


def _check_strength(document: dict[str, Any]) -> None:
    crypto = document["crypto"]
    if crypto["kdf"] != "scrypt":
        raise _WeakKeystoreError(f" derives its key by {crypto['kdf']!r}, expected scrypt")
    for name, (lowest, highest) in _SCRYPT_BOUNDS.items():
        value = crypto["kdfparams"][name]
        if type(value) is not int or not lowest <= value <= highest:
            raise _WeakKeystoreError(
                f": scrypt {name} is {value!r}, expected {lowest} to {highest}: encrypt the key "
                "again"
            )


def _read_private(path: Path) -> str:
    """Read a file that only its owner, who is asking, may read."""
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            rights = stat.S_IMODE(status.st_mode)
            if rights & 0o077 or status.st_uid != os.geteuid():
                raise KeyFileError(
                    f"{path} has rights {rights:03o} and owner {status.st_uid}: it must be "
                    "readable by its owner alone (chmod 600)"
                )
            return file.read(65536).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} cannot be read: {error.__class__.__name__}") from error
