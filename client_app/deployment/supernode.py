"""Starts a SuperNode, and waits until the coordinator's SuperLink has let it in."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from client_app.deployment.processes import ProcessError, Processes

NAME: Final = "supernode"

#: Flower 1.41 says it once it is let in, and that it is not: one whose key is not registered, and
#: one that was killed a moment ago, which counts as there for two of its heartbeats, of 30 s each.
_LET_IN: Final = "SuperNode ID:"
_STILL_THERE: Final = "Failed to activate SuperNode"
_FORGOTTEN_SECONDS: Final = 90.0
_AGAIN_SECONDS: Final = 5.0
#: Longer than this it tries by itself: the coordinator's machine may be off.
_PATIENCE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1


def start_supernode(
    running: Processes,
    command: Sequence[str],
    environment: Mapping[str, str],
    tell: Callable[[str], None],
) -> bool:
    """Start a SuperNode unless it runs; return whether it was started.

    Parameters
    ----------
    running : Processes
        The organization's.
    command : sequence of str
        Flower's, without secrets.
    environment : mapping of str to str
        The whole of it.
    tell : callable
        Told what is waited for.

    Raises
    ------
    ProcessError
        If it ends again, such as one whose key the coordinator does not know.
    """
    deadline = time.monotonic() + _FORGOTTEN_SECONDS
    while True:
        log = running.log(NAME)
        before = log.stat().st_size if log.exists() else 0
        if not running.start(NAME, command, environment):
            return False
        said = _until_let_in(running, before)
        if _LET_IN in said or NAME in running.running():
            return True
        if _STILL_THERE not in said:
            raise ProcessError(f"{NAME} has ended; the end of {log}:\n{said.strip()[-1500:]}")
        if time.monotonic() > deadline:
            raise ProcessError(
                f"{NAME}: the coordinator does not let it in: it does not know the node's key "
                "(`foedus join` with a new invitation), or a node with the same key runs elsewhere"
            )
        tell("the coordinator does not know yet that this node had ended, or does not know it")
        time.sleep(_AGAIN_SECONDS)


def _until_let_in(running: Processes, before: int) -> str:
    """Wait until a SuperNode is let in or has ended, or for long; return what it said."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        # First whether it runs: what it says at its end is in the log then.
        runs = NAME in running.running()
        with running.log(NAME).open("rb") as log:
            log.seek(before)
            said = log.read().decode(errors="replace")
        if _LET_IN in said or not runs or time.monotonic() > deadline:
            return said
        time.sleep(_LOOK_SECONDS)
