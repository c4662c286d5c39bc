"""Flower as it is deployed: a SuperLink and SuperNodes in processes of their own, on loopback."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from client_app.deployment.flower import flower_environment, flower_home

_START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Run a process and all that it starts for as long as the context lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(10)


@contextlib.contextmanager
def superlink(folder: Path, first_on_path: Path | None = None) -> Iterator[int]:
    """Run a SuperLink in memory; gives its port once it answers."""
    port, home = free_port(), flower_home(folder)
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "here"\n\n'
        f'[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    command = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
    env = flower_environment(folder, first_on_path)
    with running(command, folder / "superlink.log", env) as process:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=1.0).is_success:
                    yield port
                    return
            time.sleep(0.2)
        raise AssertionError((folder / "superlink.log").read_text())


@contextlib.contextmanager
def supernode(folder: Path, port: int, first_on_path: Path, config: str) -> Iterator[Path]:
    """Run a SuperNode that connects to a SuperLink's port; gives its log."""
    flower_home(folder).mkdir(parents=True)
    env = flower_environment(folder, first_on_path)
    command = [
        *("flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"),
        *("--host", "127.0.0.1", "--port", str(free_port()), "--node-config", config),
    ]
    log = folder / "supernode.log"
    with running(command, log, env):
        yield log
