"""Processes of a deployment: started once, known again, ended with all that they started."""

import contextlib
import json
import os
import signal
import stat
import sys
import time

import psutil
import pytest

from client_app.deployment.processes import ProcessError, Processes

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); "
    "time.sleep(60)",
]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time; "
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print(p.pid, flush=True); time.sleep(60)",
]


@pytest.fixture
def processes(tmp_path):
    made = Processes(tmp_path / "processes")
    yield made
    made.stop()


def wait_for(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_process_is_started_once_and_known_by_another_command(processes, tmp_path):
    assert processes.start("one", SLEEPER, os.environ) is True
    assert processes.start("one", SLEEPER, os.environ) is False
    [(name, pid)] = Processes(tmp_path / "processes").running().items()
    assert name == "one"
    assert lives(pid)
    assert Processes(tmp_path / "processes").stop() == ["one"]
    assert not lives(pid)
    assert processes.running() == {}


def test_one_whose_command_the_system_does_not_tell_at_once_is_known_again(processes, monkeypatch):
    asked, told = [], psutil.Process.cmdline

    def late(process):
        asked.append(process.pid)
        return [] if len(asked) < 3 else told(process)

    monkeypatch.setattr(psutil.Process, "cmdline", late)
    processes.start("one", SLEEPER, os.environ)
    monkeypatch.undo()
    assert len(asked) == 3
    assert list(processes.running()) == ["one"]


def test_one_that_was_killed_is_started_again(processes):
    processes.start("one", SLEEPER, os.environ)
    first = processes.running()["one"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not processes.running())
    assert processes.start("one", SLEEPER, os.environ) is True
    assert processes.running()["one"] != first


def test_what_a_process_has_started_ends_with_it(processes):
    processes.start("parent", PARENT, os.environ)
    wait_for(lambda: processes.log("parent").read_text().strip())
    child = int(processes.log("parent").read_text())
    assert lives(child)
    processes.stop()
    assert not lives(child)


def test_one_that_will_not_end_is_ended(processes, monkeypatch):
    monkeypatch.setattr("client_app.deployment.processes._END_SECONDS", 0.5)
    processes.start("stubborn", STUBBORN, os.environ)
    wait_for(lambda: processes.log("stubborn").read_text().strip())
    pid = processes.running()["stubborn"]
    assert processes.stop() == ["stubborn"]
    assert not lives(pid)


def test_the_last_started_ends_first(processes):
    for name in ("b", "a", "c"):
        processes.start(name, SLEEPER, os.environ)
        time.sleep(0.05)
    assert processes.stop() == ["c", "a", "b"]


def test_another_process_with_the_same_id_is_not_taken_for_it(processes, tmp_path):
    processes.start("one", SLEEPER, os.environ)
    [record] = (tmp_path / "processes").glob("one.json")
    original = json.loads(record.read_text())
    me = psutil.Process()
    for changed in (
        {"pid": me.pid},
        {"started": original["started"] - 100},
        {"command": ["other"]},
    ):
        record.write_text(json.dumps({**original, **changed}))
        assert processes.running() == {}
    record.write_text(json.dumps(original))
    assert processes.running() == {"one": original["pid"]}


def test_a_record_cut_off_is_that_of_no_process(processes, tmp_path):
    processes.start("one", SLEEPER, os.environ)
    record = tmp_path / "processes" / "one.json"
    original = record.read_text()
    record.write_text(original[:20])
    assert processes.running() == {}
    record.write_text(original)


def test_a_command_that_is_not_there_and_one_that_ends_at_once_are_said(processes):
    with pytest.raises(ProcessError, match="one: /no/such: No such file"):
        processes.start("one", ["/no/such"], os.environ)
    processes.start("two", [sys.executable, "-c", "print('why')"], os.environ)
    wait_for(lambda: "two" not in processes.running())
    with pytest.raises(ProcessError, match=r"two has ended; the end of .*two\.log:\nwhy"):
        processes.require("two")


def test_records_and_logs_are_their_owners_alone(processes, tmp_path):
    processes.start("one", SLEEPER, os.environ)
    folder = tmp_path / "processes"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "one.json").stat().st_mode) == 0o600
