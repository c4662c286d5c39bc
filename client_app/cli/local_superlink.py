"""A SuperLink of the run's own: started for one command, in simulation mode, and stopped after it.

``flwr run`` would start one by itself, but leave it running with the working directory and the
environment of that first call.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from filelock import FileLock, Timeout

_START_SECONDS = 60.0
_END_SECONDS = 5.0
_POLL_SECONDS = 0.5
#: Asking Flower starts a process: seconds between two times, and where the run seems to have ended.
_ASK_SECONDS = 15.0
_ASK_SECONDS_ENDED = 5.0
#: Marks every process of a run, so that none outlives it.
_OWNER_VARIABLE = "FOEDUS_SUPERLINK"
#: Of ``flwr``, in its configuration, to the SuperLink that a home has.
CONNECTION = "foedus"


class SuperLinkError(RuntimeError):
    """The SuperLink did not start, or refused the run."""


@dataclass(frozen=True)
class SuperLink(ABC):
    """A SuperLink, asked by Flower's own command.

    Parameters
    ----------
    environment : dict of str to str
        The environment in which ``flwr`` finds it.
    log : Path
        Its log, Flower's own output of the run included.
    """

    environment: dict[str, str]
    log: Path

    @abstractmethod
    def require(self) -> None:
        """Make sure that it runs.

        Raises
        ------
        SuperLinkError
            If it has stopped.
        """

    def submit(
        self,
        app: Path,
        run_config: dict[str, object],
        federation_config: dict[str, object] | None = None,
    ) -> int:
        """Start a run by ``flwr run``; return Flower's run id.

        Raises
        ------
        SuperLinkError
            With Flower's own message.
        """
        simulated = ["--federation-config", _toml_pairs(federation_config or {})]
        answer = self._flwr(
            "run",
            str(app),
            CONNECTION,
            "--run-config",
            _toml_pairs(run_config),
            *(simulated if federation_config else []),
            "--format",
            "json",
        )
        if not answer.get("success"):
            raise SuperLinkError(f"flwr run: {answer.get('error-message', answer)}")
        return int(str(answer["run-id"]))

    def status(self, run_id: int) -> str:
        """Return Flower's status of a run, such as ``running`` or ``finished:failed``."""
        answer = self._flwr("list", CONNECTION, "--run-id", str(run_id), "--format", "json")
        runs = answer.get("runs", [])
        if not isinstance(runs, list) or not runs:
            raise SuperLinkError(f"flwr list: {answer.get('error-message', answer)}")
        return str(runs[0]["status"])

    def wait(self, run_id: int, refresh: Callable[[], bool]) -> str:
        """Wait until a run has ended, and return Flower's status of it.

        Parameters
        ----------
        run_id : int
            Flower's id of the run.
        refresh : callable
            Shows how far it is, twice a second; returns whether it seems to have ended.

        Raises
        ------
        SuperLinkError
            If the SuperLink stops before.
        """
        asked = time.monotonic()
        while True:
            interval = _ASK_SECONDS_ENDED if refresh() else _ASK_SECONDS
            time.sleep(_POLL_SECONDS)
            self.require()
            if time.monotonic() - asked > interval:
                status = self.status(run_id)
                if status.startswith("finished"):
                    return status
                asked = time.monotonic()

    def _flwr(self, *arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [_script("flwr"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            # Notices may precede the answer.
            answer = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            said = (done.stderr or done.stdout).strip()
            raise SuperLinkError(f"flwr {arguments[0]}: {said[-500:]}") from None
        return dict(answer)


@dataclass(frozen=True)
class LocalSuperLink(SuperLink):
    """One that was started for a command.

    Parameters
    ----------
    process : Popen
        Its process.
    address : str
        Where it answers, once it has started.
    """

    process: subprocess.Popen[bytes]
    address: str

    def require(self) -> None:
        """Make sure that it runs."""
        if self.process.poll() is not None:
            raise SuperLinkError(f"the SuperLink stopped during the run, see {self.log}")

    def submit(
        self,
        app: Path,
        run_config: dict[str, object],
        federation_config: dict[str, object] | None = None,
    ) -> int:
        """Start a run as soon as the SuperLink answers."""
        self._wait_until_healthy()
        return super().submit(app, run_config, federation_config)

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SuperLinkError(
                    f"flower-superlink exited with status {self.process.returncode}, see {self.log}"
                )
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.address}/health", timeout=1.0).is_success:
                    return
            time.sleep(0.2)
        raise SuperLinkError(
            f"flower-superlink did not answer within {_START_SECONDS:.0f} s, see {self.log}"
        )


def last_error(log: Path) -> str:
    """Return the last line of Flower's log that names an error."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if re.match(r"\s*[\w.]*Error\b.*:", line)]
    return errors[-1].strip()[:500] if errors else ""


@contextlib.contextmanager
def local_superlink(flwr_home: Path) -> Iterator[LocalSuperLink]:
    """Run a SuperLink for as long as the context lasts; it starts while the caller goes on.

    Parameters
    ----------
    flwr_home : Path
        Flower's folder for it: configuration, unpacked applications, log.
    """
    flwr_home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(flwr_home / "superlink.lock", timeout=0):
            # Whoever holds the lock owns the folder: what still runs for it was left by a kill.
            _end_all_of(flwr_home)
            with _running(flwr_home) as superlink:
                yield superlink
    except Timeout:
        raise SuperLinkError(
            f"another `foedus run` is at work in {flwr_home.parent}: wait for it, or use another "
            "--home"
        ) from None


@contextlib.contextmanager
def _running(flwr_home: Path) -> Iterator[LocalSuperLink]:
    port, control_port = _free_port(), _free_port()
    (flwr_home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    environment = {
        **os.environ,
        "FLWR_HOME": str(flwr_home),
        _OWNER_VARIABLE: str(flwr_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # NumPy's products here are small; their threads and torch's only get in each other's way.
        "OPENBLAS_NUM_THREADS": "1",
        # Ray runs its workers at niceness 15: beside anything else that is busy, one of torch's
        # threads would wait for a processor, and the others for it.
        "RAY_worker_niceness": "0",
        # The scripts a SuperLink starts are found beside this interpreter, environment active
        # or not.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    log = flwr_home / "superlink.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                _script("flower-superlink"),
                "--insecure",
                "--simulation",
                "--isolation",
                "subprocess",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--control-api-address",
                f"127.0.0.1:{control_port}",
            ],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield LocalSuperLink(environment, log, process, f"http://127.0.0.1:{port}")
    finally:
        # All at once: once their parents have gone, Ray's workers are nobody's children.
        _end_all_of(flwr_home)
        process.wait(_END_SECONDS)


def _end_all_of(flwr_home: Path) -> None:
    """End every process that runs for a Flower home.

    The simulation and Ray's processes live in sessions of their own and outlast their SuperLink;
    they inherit its environment, and are known by that.
    """
    # Ray's workers write their title over their environment: they are found as children.
    processes = set[psutil.Process]()
    for process in psutil.process_iter():
        if _runs_for(process, flwr_home):
            with contextlib.suppress(psutil.NoSuchProcess):
                processes.update([process, *process.children(recursive=True)])
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(list(processes), timeout=_END_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_END_SECONDS)


def _runs_for(process: psutil.Process, flwr_home: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(_OWNER_VARIABLE) == str(
            flwr_home
        )
    except psutil.Error:
        # Ended meanwhile, or another user's.
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _toml_pairs(pairs: dict[str, object]) -> str:
    return " ".join(f"{key}={_toml_value(value)}" for key, value in pairs.items())


def _toml_value(value: object) -> str:
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value)
