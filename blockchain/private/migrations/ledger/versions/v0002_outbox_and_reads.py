"""The outbox of anchors, and the log of reads."""

import sqlalchemy as sa
from alembic import op

revision = "ledger_0002"
down_revision = "ledger_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables whose rows carry a MAC."""
    op.create_table(
        "outbox",
        sa.Column("size", sa.Integer, primary_key=True),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("deadline", sa.Integer, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("transaction", sa.LargeBinary, nullable=False),
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "read_log",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("time", sa.Integer, nullable=False),
        sa.Column("member", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("records", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
