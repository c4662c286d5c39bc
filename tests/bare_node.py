"""A bare Hardhat node with every method that the managed one lacks: for tests that misbehave."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from blockchain.chain_settings import ChainSettings
from blockchain.toolchain import hardhat_command, hardhat_folder
from tests.chain_samples import ask, free_port

_START_SECONDS = 30.0


@contextmanager
def bare_node(log: Path, port: int | None = None) -> Iterator[ChainSettings]:
    """Run a node for as long as the context lasts, on a free port unless one is named."""
    port = port or free_port()
    settings = ChainSettings.model_validate({"rpc_url": f"http://127.0.0.1:{port}"})
    command = hardhat_command("node", "--hostname", "127.0.0.1", "--port", str(port))
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=hardhat_folder(), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(settings):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield settings
    finally:
        process.kill()
        process.wait()


def _answers(settings: ChainSettings) -> bool:
    try:
        return bool(ask(settings, "eth_chainId"))
    except requests.RequestException:
        return False
