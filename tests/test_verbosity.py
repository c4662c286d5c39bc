"""`foedus --verbose`: everything that is said, one JSON line each; nothing of it without."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chain_samples import free_port
from tests.foedus_home import FoedusHome, foedus_home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[FoedusHome]:
    with foedus_home(tmp_path / "home") as made:
        yield made


def deployed(home: FoedusHome, *options: str) -> "subprocess.CompletedProcess[str]":
    """Start a chain and deploy the contracts: five transactions."""
    home.environment["FOEDUS_CHAIN_PORT"] = str(free_port())
    started = home.foedus("chain", "start")
    assert started.returncode == 0, started.stderr
    return home.foedus(*options, "deploy")


@pytest.mark.real
def test_transactions_are_said_one_line_each_where_that_is_asked_for(home: FoedusHome) -> None:
    done = deployed(home, "--verbose")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    landed = [line["message"] for line in lines if line["logger"] == "blockchain.sender"]
    assert sum("landed: 0x" in message for message in landed) >= 5


@pytest.mark.real
def test_by_default_nothing_of_it_is_said(home: FoedusHome) -> None:
    done = deployed(home)
    assert done.returncode == 0, done.stderr
    assert "landed" not in done.stderr
    assert not any(line.startswith("{") for line in done.stderr.splitlines())
