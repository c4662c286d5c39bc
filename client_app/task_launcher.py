"""Starts Flower's ``flower-superexec``, so that no task's token stands in a process's arguments.

Flower starts a process for each task and gives it the task's token as an argument, which everybody
on the machine can read. Here the token lies in a file without a name that the process inherits
open, and of which its arguments say the number.

It is run as a file of its own, by its path and with ``python -P``, and imports nothing of Foedus.
"""

import subprocess
from collections.abc import Sequence
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import Any, Final

from flwr.supercore.cli import flower_superexec
from flwr.supercore.superexec.executor import subprocess_executor

_GIVEN: Final = "--token"


class TokenNotFoundError(Exception):
    """Flower starts a task in another way than the one that is known here."""


def start_task(arguments: Sequence[str], **more: Any) -> "subprocess.Popen[bytes]":
    """Start a task's process as :class:`subprocess.Popen` would, its token in a file.

    Parameters
    ----------
    arguments : sequence of str
        Flower's, among them ``--token`` and the token.
    **more
        Of ``Popen``.

    Raises
    ------
    TokenNotFoundError
        If there is no token among them, which would be known to everybody under another name.
    """
    given = list(arguments)
    if given.count(_GIVEN) != 1 or given[-1] == _GIVEN:
        raise TokenNotFoundError(
            f"{given[0]}: expected {_GIVEN} and a token among its arguments: it was not started"
        )
    at = given.index(_GIVEN)
    # The process has its own descriptor of the file, which is gone with the last of them.
    with TemporaryFile() as token:
        token.write(given[at + 1].encode())
        token.seek(0)
        given[at : at + 2] = ["--token-file", f"/dev/fd/{token.fileno()}"]
        return subprocess.Popen(given, pass_fds=(token.fileno(),), **more)


def main() -> None:
    """Run ``flower-superexec`` with its own arguments."""
    # In that one module: everything else starts processes as before.
    stand_in = SimpleNamespace(Popen=start_task, DEVNULL=subprocess.DEVNULL)
    subprocess_executor.subprocess = stand_in  # type: ignore[attr-defined,assignment]
    flower_superexec()


if __name__ == "__main__":
    main()
