"""The ``foedus`` command. Each subcommand has a file of its own; start at :mod:`.command`."""

from client_app.cli.command import main

__all__ = ["main"]
