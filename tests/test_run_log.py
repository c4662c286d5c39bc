"""The run's log: one line an event, and what a resumed run adds up from it."""

import json

import pytest

from server_app.run_log import RunLog


def lines(*events):
    return "".join(json.dumps(event) + "\n" for event in events)


def at(second, event, **particulars):
    return {"time": f"2026-01-01T00:00:{second:02d}.000+00:00", "event": event, **particulars}


def test_an_event_is_one_line_with_its_time_and_particulars(tmp_path):
    RunLog(tmp_path / "run.log")("round-opened", {"round": 3})
    [line] = (tmp_path / "run.log").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["round"]) == ("round-opened", 3)
    assert entry["time"].startswith("20")


def test_a_new_log_covers_nothing(tmp_path):
    log = RunLog(tmp_path / "run.log")
    assert log.covered_seconds() == 0.0
    assert log.logged_seconds("setup-finished") == 0.0


def test_the_time_between_two_attempts_is_not_counted(tmp_path):
    path = tmp_path / "run.log"
    path.write_text(
        lines(
            at(0, "run-started"),
            at(2, "setup-finished", seconds=2.0),
            at(7, "round-sealed"),
            at(30, "run-started"),
            at(31, "setup-finished", seconds=1.0),
            at(34, "run-finished"),
        )
    )
    log = RunLog(path)
    assert log.covered_seconds() == pytest.approx(7.0 + 4.0)
    assert log.logged_seconds("setup-finished") == pytest.approx(3.0)


def test_a_line_that_a_kill_cut_is_dropped_and_what_follows_is_readable(tmp_path):
    path = tmp_path / "run.log"
    whole = lines(at(0, "run-started"), at(5, "round-sealed"))
    for cut in range(1, len(lines(at(9, "round-opened")))):
        path.write_text(whole + lines(at(9, "round-opened"))[:cut])
        log = RunLog(path)
        assert path.read_text() == whole
        assert log.covered_seconds() == pytest.approx(5.0)
