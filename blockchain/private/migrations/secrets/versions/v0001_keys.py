"""Keys of payloads and roles, and what opens the data set's entries."""

import sqlalchemy as sa
from alembic import op

revision = "secrets_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables from which rows are erased."""
    op.create_table(
        "keys",
        sa.Column("record", sa.Integer, primary_key=True),
        sa.Column("role", sa.Text, primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("mac_generation", sa.Integer, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "entry_secrets",
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "role_keys",
        sa.Column("role", sa.Text, primary_key=True),
        sa.Column("public", sa.LargeBinary, primary_key=True),
        sa.Column("holder", sa.Text, primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("mac_generation", sa.Integer, nullable=False),
        sa.Column("mac", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
