"""The processes of a machine's part in a federation: started once, known again, ended together.

Each has a record, ``<folder>/<name>.json``, by which it is told from any later process with the
same id, and a log, ``<folder>/<name>.log``. All that it starts itself is of its process group, and
ends with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil
from filelock import FileLock, Timeout

from blockchain.durable_file import write_durably

_END_SECONDS: Final = 15.0
_COMMAND_SECONDS: Final = 5.0
_PRIVATE: Final = 0o600
_LOG_TAIL: Final = 1500


class ProcessError(Exception):
    """A process did not start, or ended at once; the log's end is in it."""


@dataclass(frozen=True)
class _Record:
    pid: int
    started: float
    command: list[str]

    def process(self) -> psutil.Process | None:
        """Find the process, if it still is the one that was started."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            same = abs(process.create_time() - self.started) < 2.0
            return process if same and process.cmdline() == self.command else None
        except psutil.NoSuchProcess:
            return None


class Processes:
    """Those of one folder.

    Parameters
    ----------
    folder : Path
        For records and logs; made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log(self, name: str) -> Path:
        """Return where a process writes."""
        return self._folder / f"{name}.log"

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Start a process, unless it runs; return whether it was started.

        Parameters
        ----------
        name : str
            What it is called here.
        command : sequence of str
            Without secrets: every user of the machine can read it.
        environment : mapping of str to str
            The whole of it.

        Raises
        ------
        ProcessError
            If it cannot be started.
        """
        with self._alone():
            if self._running(name) is not None:
                return False
            with self.log(name).open("ab") as log:
                try:
                    process = psutil.Popen(
                        list(command),
                        env=dict(environment),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                except OSError as error:
                    raise ProcessError(f"{name}: {command[0]}: {error.strerror}") from None
            with contextlib.suppress(psutil.Error):
                # As the system has it: of a script, the interpreter stands before it.
                record = _Record(process.pid, process.create_time(), _command_of(process))
                write_durably(self._record(name), json.dumps(asdict(record)) + "\n", _PRIVATE)
            return True

    def running(self) -> dict[str, int]:
        """Return the ids of those that run, by name."""
        names = sorted(path.stem for path in self._folder.glob("*.json"))
        found = {name: self._running(name) for name in names}
        return {name: process.pid for name, process in found.items() if process is not None}

    def faults(self, *names: str) -> list[str]:
        """Say which of some processes do not run."""
        running = self.running()
        return [f"{name} has ended" for name in names if name not in running]

    def require(self, name: str) -> None:
        """Make sure that a process still runs.

        Raises
        ------
        ProcessError
            If not, with the end of its log.
        """
        if self._running(name) is None:
            log = self.log(name)
            end = log.read_text(errors="replace")[-_LOG_TAIL:] if log.exists() else ""
            raise ProcessError(f"{name} has ended; the end of {log}:\n{end}")

    def stop(self) -> list[str]:
        """End all of them and what they have started, the last one first; return their names."""
        with self._alone():
            found = {name: self._running(name) for name in self.running()}
            processes = sorted(
                ((name, one) for name, one in found.items() if one is not None),
                key=lambda pair: -pair[1].create_time(),
            )
            for name, process in processes:
                _end_group(process)
                self._record(name).unlink(missing_ok=True)
            return [name for name, _ in processes]

    def _running(self, name: str) -> psutil.Process | None:
        try:
            document = json.loads(self._record(name).read_text(encoding="utf-8"))
            return _Record(**document).process()
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            # Cut off by a power loss: what it was about runs no more either.
            return None

    def _record(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with FileLock(self._folder / "processes.lock", timeout=60):
                yield
        except Timeout:
            raise ProcessError(
                f"another command is starting or stopping processes in {self._folder}"
            ) from None


def _command_of(process: psutil.Process) -> list[str]:
    """Return a process's command as the system has it: of a script, the interpreter before it.

    For a moment after a process was started the system says that it has none: noted so, it would
    never be known again.
    """
    deadline = time.monotonic() + _COMMAND_SECONDS
    while not (command := process.cmdline()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return command


def _end_group(process: psutil.Process) -> None:
    """End a process and its group: politely, then not."""
    group = process.pid
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
    deadline = time.monotonic() + _END_SECONDS
    while _in_group(group):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.05)


def _in_group(group: int) -> bool:
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(OSError):
            if os.getpgid(process.pid) == group and (
                process.info["status"] != psutil.STATUS_ZOMBIE
            ):
                return True
    return False
