"""Blocks, records, payloads and the data set's entries."""

import sqlalchemy as sa
from alembic import op

revision = "ledger_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the chain itself."""
    op.create_table(
        "blocks",
        sa.Column("height", sa.Integer, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("previous", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.Integer, nullable=False, unique=True),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("policy", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.Integer, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "records",
        sa.Column("record", sa.Integer, primary_key=True),
        sa.Column("block", sa.Integer, sa.ForeignKey("blocks.height"), nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_records_block", "records", ["block"])
    op.create_index("ix_records_type", "records", ["type"])
    op.create_table(
        "payloads",
        sa.Column("record", sa.Integer, sa.ForeignKey("records.record"), primary_key=True),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "entries",
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("record", sa.Integer, sa.ForeignKey("records.record"), nullable=False),
        sa.Column("commitment", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ix_entries_record", "entries", ["record"])
