"""The managed chain: Hardhat on this machine, started where none runs and left running.

What is started is :mod:`blockchain.chain_gateway`, which brings the chain back from its journal and
is the only way to it. The chain is tamper-evident at best, not trustless: whoever owns the machine
can write another journal, and the keys that fund accounts are public.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import requests
from filelock import FileLock, Timeout
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError

from blockchain.chain_settings import DEVELOPMENT_CHAIN_ID, ChainSettings
from blockchain.durable_file import write_durably
from blockchain.errors import NodeError
from blockchain.toolchain import hardhat_command

_HOST: Final = "127.0.0.1"
_FIRST_PORT: Final = 8545
_PORTS_TRIED: Final = 100
# A long journal takes its time to replay.
_START_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_LOG_TAIL: Final = 2000


class _Process(BaseModel):
    """What tells the node's process from any later one with the same id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int = Field(gt=1)
    started: float = Field(description="Seconds since the epoch.")
    command: list[str]
    port: int = Field(ge=1, le=65535)

    def running(self) -> psutil.Process | None:
        """Find the process, if it still is the one that was started."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            same_start = abs(process.create_time() - self.started) < 2.0
            return process if same_start and process.cmdline() == self.command else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class NodeStatus:
    """State of the managed node.

    Parameters
    ----------
    running : bool
        Whether its process runs and answers.
    rpc_url : str
        Address of its JSON-RPC.
    log : Path
        File that it writes to.
    pid : int, optional
        Process id, while the process runs.
    block_number : int, optional
        Height of the chain, while the node answers.
    """

    running: bool
    rpc_url: str
    log: Path
    pid: int | None = None
    block_number: int | None = None


class ManagedNode:
    """The chain that belongs to one home folder, and outlives whoever started it.

    Parameters
    ----------
    home : Path
        Home folder; the node's record and log lie in its ``chain`` folder.
    port : int, optional
        Port on 127.0.0.1. Without one: the port it runs on, or on a start the first free one from
        8545, for another home's node may hold that.
    """

    def __init__(self, home: Path, port: int | None = None) -> None:
        self.folder = home / "chain"
        self._wanted_port = port
        self._record = self.folder / "node.json"
        self._log = self.folder / "node.log"

    @property
    def port(self) -> int:
        """The port asked for, else the one of the running or last started node."""
        if self._wanted_port is not None:
            return self._wanted_port
        known = self._known()
        return _FIRST_PORT if known is None else known.port

    @property
    def settings(self) -> ChainSettings:
        """How to connect to it."""
        return ChainSettings(
            rpc_url=AnyHttpUrl(f"http://{_HOST}:{self.port}"), chain_id=DEVELOPMENT_CHAIN_ID
        )

    def start(self) -> NodeStatus:
        """Start the node unless it runs, and wait until it answers.

        Any number of processes may call this at once: one node comes of it.

        Raises
        ------
        NodeError
            The port is taken, the node stopped while starting, or it does not answer.
        ToolchainMissingError
            Hardhat is not installed.
        """
        with self._alone():
            known = self._known()
            process = known.running() if known is not None else None
            if known is not None and process is not None:
                if self._wanted_port not in (None, known.port):
                    raise NodeError(
                        f"the node of {self.folder} already runs on port {known.port}, not "
                        f"{self._wanted_port}: stop it first (`foedus chain stop`), or use its port"
                    )
                self._wait_until_it_answers(process, known.port)
                return self.status()
            port = self._free_port()
            started = self._spawn(port)
            try:
                self._wait_until_it_answers(started, port)
            except BaseException:
                _end(started)
                self._record.unlink(missing_ok=True)
                raise
            return self.status()

    def stop(self) -> bool:
        """Stop the node that this home started, never another; whether there was one to stop."""
        with self._alone():
            known = self._known()
            process = known.running() if known is not None else None
            if process is not None:
                _end(process)
            self._record.unlink(missing_ok=True)
            return process is not None

    def status(self) -> NodeStatus:
        """Look whether the node runs and answers, changing nothing."""
        known = self._known()
        process = known.running() if known is not None else None
        if known is None or process is None:
            return NodeStatus(False, str(self.settings.rpc_url), self._log)
        height = _block_number(known.port)
        url = f"http://{_HOST}:{known.port}/"
        return NodeStatus(height is not None, url, self._log, process.pid, height)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from starting or stopping the same home's node meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "node.lock", timeout=2 * _START_SECONDS):
                yield
        except Timeout as error:
            raise NodeError(
                f"{self.folder} is locked by another start that does not end"
            ) from error

    def _known(self) -> _Process | None:
        try:
            return _Process.model_validate_json(self._record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise NodeError(
                f"{self._record} is no record of a node: stop what it started by hand, then remove "
                "the file"
            ) from error

    def _free_port(self) -> int:
        if self._wanted_port is not None:
            if (reason := _why_taken(self._wanted_port)) is not None:
                raise NodeError(
                    f"port {self._wanted_port} is in use by something else ({reason}): stop that, "
                    "or choose another port for the chain"
                )
            return self._wanted_port
        for port in range(_FIRST_PORT, _FIRST_PORT + _PORTS_TRIED):
            if _why_taken(port) is None:
                return port
        raise NodeError(
            f"ports {_FIRST_PORT} to {_FIRST_PORT + _PORTS_TRIED - 1} are all in use: choose "
            "another port for the chain"
        )

    def _spawn(self, port: int) -> psutil.Process:
        """Start the node in a session of its own, so that no signal to the caller reaches it."""
        # Told here, where the one who starts it reads it, and not in the log alone.
        hardhat_command()
        command = [sys.executable, "-m", "blockchain.chain_gateway"]
        command += ["--folder", str(self.folder.absolute()), "--port", str(port)]
        with self._log.open("ab") as log:
            process = psutil.Popen(
                command,
                cwd=Path(__file__).parents[1],
                env={**os.environ, "NO_COLOR": "1", "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        record = _Process(
            pid=process.pid, started=process.create_time(), command=command, port=port
        )
        write_durably(self._record, record.model_dump_json() + "\n")
        return process

    def _wait_until_it_answers(self, process: psutil.Process, port: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while _block_number(port) is None:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise NodeError(f"the node stopped while starting:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise NodeError(
                    f"the node (process {process.pid}) does not answer on port {port} after "
                    f"{_START_SECONDS:g} s; see {self._log}"
                )
            time.sleep(_POLL_SECONDS)

    def _log_tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]


def _why_taken(port: int) -> str | None:
    """Return why a port cannot be had; None where it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            return error.strerror
    return None


def _end(process: psutil.Process) -> None:
    """Ask the process to end, and end it if it does not."""
    try:
        process.terminate()
        try:
            process.wait(timeout=_STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(timeout=_STOP_SECONDS)
    except psutil.NoSuchProcess:
        return


def _block_number(port: int) -> int | None:
    """Height of the chain on `port`; None where no node answers."""
    try:
        answer = requests.post(
            f"http://{_HOST}:{port}",
            json={"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []},
            timeout=5,
        ).json()
        return int(answer["result"], 16)
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None
