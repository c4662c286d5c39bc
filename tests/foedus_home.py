"""A scratch home for the `foedus` command, and the end of everything that was started in it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from blockchain.managed_node import ManagedNode

BIN = Path(sys.executable).parent


def shared_cache() -> Path:
    """Where downloads are kept from one test session to the next, as `make demo` keeps them."""
    home = Path(os.environ.get("FOEDUS_HOME") or "~/.foedus").expanduser()
    return Path(os.environ.get("FOEDUS_CACHE") or home / "cache")


class FoedusHome:
    """A home folder, and the command in it.

    Parameters
    ----------
    path : Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flower_home = path / "flwr"
        self.environment = {
            **os.environ,
            "FOEDUS_HOME": str(path),
            "FOEDUS_CACHE": str(shared_cache()),
            # A second thread would wait for what the test itself, and others beside it, compute.
            "OMP_NUM_THREADS": "1",
            # An error line must come whole, however narrow the terminal.
            "COLUMNS": "400",
        }

    def foedus(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        return subprocess.run(
            [BIN / "foedus", *arguments],
            env=self.environment,
            cwd=self.path.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=480,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start the command and return at once."""
        with (self.path.parent / f"{self.path.name}.out").open("wb") as output:
            return subprocess.Popen(
                [BIN / "foedus", *arguments],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run_folder(self, name: str) -> Path:
        """Where a run lies."""
        return self.path / "runs" / name

    def events(self, name: str) -> list[dict[str, Any]]:
        """The whole lines of a run's log."""
        log = self.run_folder(name) / "run.log"
        text = log.read_text() if log.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def flower_processes(self) -> list[psutil.Process]:
        """What runs with this home as Flower's: SuperLink, simulation, Ray and its workers."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("FLWR_HOME") == str(self.flower_home):
                    # Ray's workers write their titles over the environment that one could read.
                    found |= {process, *process.children(recursive=True)}
        return list(found)

    def kill_flower(self) -> None:
        """End all of it at once, as a power cut would; the managed chain is not among it."""
        processes = self.flower_processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=20)

    def close(self) -> None:
        """Stop whatever still runs, the chain included."""
        self.kill_flower()
        ManagedNode(self.path).stop()


@contextlib.contextmanager
def foedus_home(path: Path) -> Iterator[FoedusHome]:
    """A home whose processes end with the context, whatever happens in it."""
    home = FoedusHome(path)
    try:
        yield home
    finally:
        home.close()


def wait_for(what: Any, *, seconds: float = 300.0) -> None:
    """Wait until `what()` holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
