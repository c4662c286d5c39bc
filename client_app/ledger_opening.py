"""The organization's private ledger, opened: founded the first time, and held against its anchor.

It is founded with the organization's signing key as operator and trainer, and the data protection
officer's beside it. No ledger is begun anew where one was anchored.
"""

import re
from pathlib import Path
from typing import Final

from eth_account.signers.local import LocalAccount

from blockchain.keys import open_account
from blockchain.merkle import organization_id
from blockchain.private.anchoring import check_anchor
from blockchain.private.encoding import member_of
from blockchain.private.errors import NotPermittedError, RolledBackError
from blockchain.private.files import LEDGER_FILE
from blockchain.private.founding import found
from blockchain.private.ledger import Ledger
from blockchain.private.record_types import Role
from blockchain.public_chain import PublicChain
from strategies.home import ledger_folder
from strategies.organization_key import SIGNING, key_folder, officer_account, signing_address

_KEPT_KEY: Final = re.compile(rf"{SIGNING}\.0x[0-9a-fA-F]{{40}}")


def open_ledger(home: Path, organization: str, account: LocalAccount, chain: PublicChain) -> Ledger:
    """Open an organization's ledger by its signing key, founding it the first time.

    Where the signing key was rotated since, the key before it hands over to it in the ledger too.

    Raises
    ------
    RolledBackError
        There is no ledger, or a shorter one than was anchored.
    LedgerError
        It cannot be opened, or does not hold.
    """
    folder, identity = ledger_folder(home, organization), organization_id(organization)
    last = chain.anchors.last(identity)
    if not (folder / LEDGER_FILE).exists():
        if last.size:
            raise RolledBackError(
                "size",
                f"there is no ledger in {folder}, and {last.size} records of one are anchored in "
                f"block {last.block} of the public chain: restore it from a backup",
            )
        found(
            folder,
            identity,
            account,
            [member_of(officer_account(home, organization), Role.OFFICER)],
        )
    ledger = opened(home, organization, account)
    try:
        check_anchor(ledger.history, last)
    except BaseException:
        ledger.close()
        raise
    return ledger


def opened(home: Path, organization: str, account: LocalAccount) -> Ledger:
    """Open an organization's ledger, without the chain.

    Where the organization's signing key was rotated since, the key before it hands over to it here
    too.
    """
    folder = ledger_folder(home, organization)
    try:
        return Ledger(folder, account)
    except NotPermittedError:
        keys = key_folder(home, organization)
        before = None
        if account.address == signing_address(home, organization):
            before = _member_before(folder, keys)
        if before is None:
            raise
        with before:
            before.rotate_key(account)
        return Ledger(folder, account)


def _member_before(folder: Path, keys: Path) -> Ledger | None:
    """Open the ledger by the newest of the replaced signing keys that is still its member."""
    kept = [path for path in keys.glob(f"{SIGNING}.0x*.json") if _KEPT_KEY.fullmatch(path.stem)]
    for path in sorted(kept, key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            return Ledger(folder, open_account(keys, path.stem))
        except NotPermittedError:
            continue
    return None
