"""Run by Alembic, on the connection that the caller holds the write lock on."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
context.run_migrations()
