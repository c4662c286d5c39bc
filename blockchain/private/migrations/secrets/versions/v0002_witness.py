"""The block that the ledger is known to have had."""

import sqlalchemy as sa
from alembic import op

revision = "secrets_0002"
down_revision = "secrets_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of the witness; it is written with the next secrets."""
    op.create_table(
        "witness",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("mac_generation", sa.Integer, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
