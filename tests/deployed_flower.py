"""Flower as it is deployed: a SuperLink and SuperNodes in processes of their own, on loopback."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from client_app import bundle_guard

_START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(flwr_home: Path, **more: str) -> dict[str, str]:
    """What Flower's processes are started in: nothing of the caller's own Flower."""
    return {
        **os.environ,
        "FLWR_HOME": str(flwr_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        **more,
    }


def guarded(folder: Path, bundles: Sequence[str]) -> Path:
    """Make the command that stands before Flower's own on a node's path; return its folder."""
    folder.mkdir(parents=True)
    named = " ".join(f"--bundle {bundle}" for bundle in bundles)
    script = folder / "flwr-clientapp"
    script.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -P "{bundle_guard.__file__}" {named} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return folder


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
def superlink(folder: Path) -> Iterator[int]:
    """Run a SuperLink in memory; gives its port once it answers."""
    port, home = free_port(), folder / "flwr"
    home.mkdir(parents=True)
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "here"\n\n'
        f'[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    command = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, folder / "superlink.log", environment(home)) as process:
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
    home = folder / "flwr"
    home.mkdir(parents=True)
    env = environment(home)
    env["PATH"] = f"{first_on_path}{os.pathsep}{env['PATH']}"
    command = [
        *("flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"),
        *("--host", "127.0.0.1", "--port", str(free_port()), "--node-config", config),
    ]
    log = folder / "supernode.log"
    with running(command, log, env):
        yield log
