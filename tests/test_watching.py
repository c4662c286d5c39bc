"""What is watched comes back when it ends, and all of it ends when it is told to."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from blockchain.errors import ChainError
from client_app.deployment.processes import Processes
from client_app.deployment.watching import Part
from client_app.deployment.watching import watch as watched
from tests.chain_samples import free_port
from tests.foedus_home import foedus_home
from tests.machines import changed

#: Two processes of one folder, watched as `foedus up --foreground` watches.
WATCHING = textwrap.dedent(
    """
    import os, pathlib, sys
    from client_app.deployment.processes import Processes
    from client_app.deployment.watching import Part, watch

    running = Processes(pathlib.Path(sys.argv[1]))
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]

    def start():
        return [name for name in ("one", "two") if running.start(name, sleeper, os.environ)]

    watch(Part(start, lambda: running.faults("one", "two"), running.stop),
          lambda line: print(line, flush=True))
    """
)


def wait_for(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lives(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def log(tmp_path):
    return tmp_path / "watch.log"


@pytest.fixture
def watcher(tmp_path, log):
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHING, str(tmp_path / "processes")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    yield process
    process.kill()
    process.wait()
    Processes(tmp_path / "processes").stop()


def test_one_that_is_killed_comes_back_and_sigterm_ends_all(watcher, tmp_path, log):
    processes = Processes(tmp_path / "processes")
    wait_for(lambda: len(processes.running()) == 2)
    first = processes.running()
    for number, pause in ((1, "1 s"), (2, "2 s")):
        os.kill(processes.running()["two"], signal.SIGKILL)
        wait_for(lambda number=number: log.read_text().count("started: two") == number)
        assert f"two has ended; starting again in {pause}\n" in log.read_text()
    again = processes.running()
    assert again["one"] == first["one"]
    assert again["two"] != first["two"]
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(20) == 0
    assert not any(lives(pid) for pid in again.values())
    lines = log.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("started: one, two", "stopped: two, one")


@pytest.fixture
def part(monkeypatch):
    """A part that fails as it is told to; the signal comes when nothing more is to be seen."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("client_app.deployment.watching._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("client_app.deployment.watching._FIRST_PAUSE", 0.001)

    def made(starts):
        left = iter(starts)

        def start():
            found = next(left)
            if isinstance(found, Exception):
                raise found
            return found

        return Part(start, lambda: ["door has ended"], lambda: ["door"])

    return made


def test_where_the_first_start_fails_all_is_ended_and_the_reason_raised(part):
    lines = []
    with pytest.raises(ChainError, match="no chain"):
        watched(part([ChainError("no chain")]), lines.append)
    assert lines == ["stopped: door"]


def test_a_later_start_that_fails_is_tried_again_after_a_longer_pause(part):
    lines = []

    class OverError(Exception):
        """Nothing that another start would mend."""

    with pytest.raises(OverError):
        watched(part([["door"], ChainError("no chain"), ["door"], OverError()]), lines.append)
    assert lines == [
        "started: door",
        "door has ended; starting again in 0.001 s",
        "no chain",
        "door has ended; starting again in 0.002 s",
        "started: door",
        "door has ended; starting again in 0.004 s",
        "stopped: door",
    ]


@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_coordinator_in_the_foreground_keeps_chain_superlink_and_door_up(tmp_path):
    with foedus_home(tmp_path / "coordinator") as home:
        where = ("--address", "127.0.0.1", "--port", str(free_port()))
        made = home.foedus("init", "coordinator", "--organizations", "north,south", *where)
        assert made.returncode == 0, made.stderr
        folder = home.path / "coordinator"
        ports = {"superlink-port": free_port(), "chain-port": free_port()}
        changed(folder / "coordinator.toml", ports)
        refused = home.foedus("up", "--foreground", "--json")
        assert (refused.returncode, refused.stdout) == (2, "")
        said, watching = tmp_path / "coordinator.out", home.start("up", "--foreground")
        try:
            wait_for(lambda: "started: chain, superlink, door" in said.read_text(), 120)
            processes = Processes(folder / "processes")
            before = processes.running()
            chain = json.loads((home.path / "chain" / "node.json").read_text())["pid"]
            os.kill(before["door"], signal.SIGKILL)
            os.kill(chain, signal.SIGKILL)
            wait_for(lambda: "has ended" in said.read_text())
            wait_for(lambda: processes.running().get("door", before["door"]) != before["door"], 120)
            wait_for(lambda: home.foedus("chain", "status").returncode == 0, 120)
            watching.send_signal(signal.SIGTERM)
            assert watching.wait(150) == 0
        finally:
            watching.kill()
            home.foedus("down")
        assert processes.running() == {}
        assert home.foedus("chain", "status").returncode == 1
        assert "stopped: door, superlink, chain" in said.read_text()
