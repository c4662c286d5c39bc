"""The tables of a ledger's two files, as the newest migrations leave them.

``ledger.sqlite`` holds what stays: blocks, leaves, ciphertexts. ``secrets.sqlite`` holds what opens
them, and what is deleted when something is erased. Both are of no use without a member's keystore.
"""

from typing import Final

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, MetaData, Table, Text

LEDGER: Final = MetaData()
SECRETS: Final = MetaData()

blocks: Final = Table(
    "blocks",
    LEDGER,
    Column("height", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("previous", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False, unique=True),
    Column("root", LargeBinary, nullable=False),
    Column("policy", LargeBinary, nullable=False),
    Column("time", Integer, nullable=False),
    Column("author", Text, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    sqlite_strict=True,
)

records: Final = Table(
    "records",
    LEDGER,
    Column("record", Integer, primary_key=True),
    Column("block", Integer, ForeignKey("blocks.height"), nullable=False, index=True),
    Column("type", Text, nullable=False, index=True),
    Column("leaf", LargeBinary, nullable=False),
    sqlite_strict=True,
)

payloads: Final = Table(
    "payloads",
    LEDGER,
    Column("record", Integer, ForeignKey("records.record"), primary_key=True),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    sqlite_strict=True,
)

#: One leaf of the data set each: commits to one record id, and stays when that is forgotten.
entries: Final = Table(
    "entries",
    LEDGER,
    Column("position", Integer, primary_key=True),
    Column("record", Integer, ForeignKey("records.record"), nullable=False, index=True),
    Column("commitment", LargeBinary, nullable=False),
    sqlite_strict=True,
)

#: Anchors to be, on their way, and made. `state`: prepared, sent, confirmed.
outbox: Final = Table(
    "outbox",
    LEDGER,
    Column("size", Integer, primary_key=True),
    Column("root", LargeBinary, nullable=False),
    Column("deadline", Integer, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("transaction", LargeBinary, nullable=False),
    Column("block", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    sqlite_strict=True,
)

#: Who opened which payload. Each row's MAC covers the one before.
read_log: Final = Table(
    "read_log",
    LEDGER,
    Column("number", Integer, primary_key=True),
    Column("time", Integer, nullable=False),
    Column("member", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("records", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    sqlite_strict=True,
)

#: Key and salt of a payload, sealed to each role that may read it.
keys: Final = Table(
    "keys",
    SECRETS,
    Column("record", Integer, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("mac_generation", Integer, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    sqlite_strict=True,
)

#: Id, digest and salt of an entry, encrypted under its data set's key.
entry_secrets: Final = Table(
    "entry_secrets",
    SECRETS,
    Column("position", Integer, primary_key=True),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    sqlite_strict=True,
)

#: A role's private key, sealed to each member that holds it.
role_keys: Final = Table(
    "role_keys",
    SECRETS,
    Column("role", Text, primary_key=True),
    Column("public", LargeBinary, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("mac_generation", Integer, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    sqlite_strict=True,
)

#: One row: a block that the ledger had when secrets were last written. An older one lacks it.
witness: Final = Table(
    "witness",
    SECRETS,
    Column("id", Integer, primary_key=True),
    Column("height", Integer, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("mac_generation", Integer, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    sqlite_strict=True,
)
