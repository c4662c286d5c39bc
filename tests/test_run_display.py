"""What a run's display says of each event, one line each where there is no terminal."""

import io
import json

import pytest
from rich.console import Console

from client_app.cli.run_display import RunDisplay
from tests.small_federation import small_settings


def shown(folder, *events):
    """Everything that the display of a run prints that logs these events."""
    out = io.StringIO()
    settings = small_settings(home=str(folder))
    display = RunDisplay(settings, folder, Console(file=out, width=200))
    with (folder / "run.log").open("w") as log:
        for event, particulars in events:
            log.write(json.dumps({"event": event, **particulars}) + "\n")
    display.refresh()
    return out.getvalue().splitlines()


def test_a_decline_is_told_from_an_absence_and_a_rejection_in_one_line_each(tmp_path):
    assert shown(
        tmp_path,
        ("round-opened", {"round": 3}),
        ("organization-absent", {"organization": "shop", "reason": "late", "error": "no answer"}),
        ("organization-declined", {"organization": "cinema", "metrics": {"tokens": 0.0}}),
        ("update-rejected", {"organization": "press", "code": "MALFORMED", "reason": "no update"}),
    ) == [
        "shop: late: no answer",
        "cinema: declined round 3",
        "press: rejected (MALFORMED): no update",
    ]


def test_where_everything_is_to_be_said_each_event_is_a_line_as_it_is_logged(tmp_path, monkeypatch):
    monkeypatch.setenv("FOEDUS_VERBOSE", "1")
    events = [("round-opened", {"round": 3}), ("update-accepted", {"organization": "x" * 300})]
    lines = [json.loads(line) for line in shown(tmp_path, *events)]
    assert lines == [{"event": event, **particulars} for event, particulars in events]


def test_a_round_that_changes_nothing_says_why(tmp_path):
    reason = "all 4 organizations that replied declined"
    particulars = {"round": 3, "accepted": 0, "declined": 4, "reason": reason}
    assert shown(tmp_path, ("round-unchanged", particulars)) == [
        f"round 3 changes nothing: {reason}"
    ]


def test_text_of_strangers_is_no_markup_and_unknown_events_are_silent(tmp_path):
    assert shown(
        tmp_path,
        ("organization-absent", {"organization": "shop", "reason": "failed", "error": "[bold]x"}),
        ("attestors-answered", {"round": 1, "seconds": 2.0}),
    ) == ["shop: failed: [bold]x"]


@pytest.mark.parametrize(("bundle", "bars"), [("", ["north", "south"]), ("ab" * 32, [])])
def test_only_organizations_that_work_on_this_machine_have_bars(tmp_path, bundle, bars):
    settings = small_settings(home=str(tmp_path), organizations="north,south", bundle=bundle)
    display = RunDisplay(settings, tmp_path, Console(file=io.StringIO()))
    assert list(display._bars) == bars
