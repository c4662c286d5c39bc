"""How a ledger begins: genesis, its first members, and the keys of all roles."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from eth_account.signers.local import LocalAccount
from sqlalchemy import insert

from blockchain.private import sealing
from blockchain.private.block_writer import insert_block
from blockchain.private.database import create, folder_lock
from blockchain.private.encoding import VERSION, Block, Leaf, ledger_domain, ledger_id, member_of
from blockchain.private.erasure import ErasureJournal
from blockchain.private.errors import LedgerFileError
from blockchain.private.files import LEDGER_FILE, SECRETS_FILE
from blockchain.private.history import History
from blockchain.private.keyring import Keyring
from blockchain.private.policy import DEFAULT_RULES, EVERYBODY, Policy
from blockchain.private.record_types import (
    Genesis,
    Member,
    Role,
    RoleKey,
    Rules,
)
from blockchain.private.schema import role_keys
from blockchain.typed_data import sign_digest

_ROLE_KEY_NAMES: Final = (*(role.value for role in sorted(Role)), EVERYBODY)


def found(
    folder: Path,
    organization: bytes,
    account: LocalAccount,
    others: Sequence[Member] = (),
    *,
    roles: Sequence[Role] = (Role.OPERATOR, Role.TRAINER),
    rules: Rules = DEFAULT_RULES,
) -> None:
    """Begin an organization's ledger, unless there is one.

    Parameters
    ----------
    folder : Path
        The ledger's folder; made where it is missing.
    organization : bytes
        Id of the organization, 32 bytes.
    account : LocalAccount
        The organization's signing key, to whose address the ledger is bound; its first operator.
    others : sequence of Member
        The other members (`blockchain.private.encoding.member_of`).
    roles : sequence of Role
        The organization's own roles.
    rules : Rules
        Who may do what.

    Raises
    ------
    RecordRefusedError
        Members or rules are malformed.
    LedgerFileError
        A part of an earlier ledger lies in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with folder_lock(folder):
        if (folder / LEDGER_FILE).exists():
            return
        journal = ErasureJournal(folder)
        if journal.path.exists():
            raise LedgerFileError(
                f"{journal.path} is there and {LEDGER_FILE} is not: restore the ledger, or move "
                "its remains away to begin another"
            )
        privates = {name: sealing.new_private_key() for name in _ROLE_KEY_NAMES}
        genesis = Genesis(
            organization=organization.hex(),
            address=account.address,
            nonce=sealing.random_key().hex(),
            members=(member_of(account, *roles), *others),
            role_keys={
                name: RoleKey(generation=0, public=sealing.public_key(private).hex())
                for name, private in privates.items()
            },
            rules=rules,
        )
        _begin(folder, account, genesis, privates)


def _begin(
    folder: Path, account: LocalAccount, genesis: Genesis, privates: Mapping[str, bytes]
) -> None:
    """Make both files, with the first block and the keys of all roles."""
    policy, ledger, now = Policy.of(genesis), ledger_id(genesis), int(time.time())
    leaf = Leaf(
        version=VERSION,
        ledger=ledger.hex(),
        record=0,
        type=genesis.record_type,
        time=now,
        author=account.address,
        role=Role.OPERATOR,
        body=genesis.checked(),
        sealed=None,
    )
    encoded, history = leaf.encoded(), History()
    block = Block(
        version=VERSION,
        ledger=ledger,
        height=0,
        previous=bytes(32),
        size=1,
        root=history.root_with([encoded]),
        policy=policy.hash,
        time=now,
        author=account.address,
    )
    signature = sign_digest(block.digest(ledger_domain(account.address)), account)
    history.apply(block, signature, [encoded], lambda _: ())
    keyring = Keyring(ledger, account)
    for name, private in privates.items():
        keyring.add(name, 0, private)
    rows = [
        row
        for name, private in privates.items()
        for row in keyring.role_key_rows(policy, name, 0, private, policy.holders(name))
    ]
    # The ledger's file goes last: where it is, both are.
    (folder / SECRETS_FILE).unlink(missing_ok=True)
    create(
        folder / SECRETS_FILE,
        "secrets",
        fill=lambda connection: connection.execute(insert(role_keys), rows),
    )
    create(
        folder / LEDGER_FILE,
        "ledger",
        fill=lambda connection: insert_block(connection, block, signature, [leaf], [encoded]),
    )
