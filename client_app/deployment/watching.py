"""A machine's part in a federation, watched: what ends is started again, until it is to end."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from blockchain.errors import ChainError
from client_app.deployment.door import DoorError
from client_app.deployment.processes import ProcessError

_LOOK_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
#: After so long without a fault the next one is the first again.
_CALM_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Part:
    """What runs on a machine.

    Parameters
    ----------
    start : callable
        Starts what does not run; returns what it started.
    faults : callable
        Returns what is not as it has to be, such as ``door has ended``.
    stop : callable
        Ends all of it; returns what ran.
    """

    start: Callable[[], list[str]]
    faults: Callable[[], list[str]]
    stop: Callable[[], list[str]]


def watch(part: Part, tell: Callable[[str], None]) -> None:
    """Start a part, start again what ends, and end all of it at SIGTERM, SIGINT or SIGHUP.

    The pause before each new start is twice the one before, up to a minute. A start under way when
    the signal comes is finished first, so that nothing of it is left behind.

    Parameters
    ----------
    part : Part
        What runs on this machine.
    tell : callable
        Told of each fault and what is done about it, in a line.

    Raises
    ------
    Exception
        If the first start fails; or a later one for a reason that another would not mend, such as
        an organization that has left.
    """
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ending.set())
    try:
        tell(f"started: {', '.join(part.start()) or 'nothing, all ran'}")
        _mend(part, tell, ending)
    finally:
        tell(f"stopped: {', '.join(part.stop()) or 'nothing ran'}")


def _mend(part: Part, tell: Callable[[str], None], ending: threading.Event) -> None:
    pause, faulty = _FIRST_PAUSE, time.monotonic()
    while not ending.wait(_LOOK_SECONDS):
        faults = part.faults()
        if not faults:
            continue
        if time.monotonic() - faulty > _CALM_SECONDS:
            pause = _FIRST_PAUSE
        tell(f"{', '.join(faults)}; starting again in {pause:g} s")
        if ending.wait(pause):
            return
        try:
            tell(f"started: {', '.join(part.start())}")
        except (ProcessError, DoorError, ChainError) as error:
            tell(str(error))
        pause, faulty = min(2 * pause, _LONGEST_PAUSE), time.monotonic()
