"""Progress of a run, read from its log and from each organization's progress file."""

import json
import time
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from client_app.cli.verbosity import is_verbose
from strategies.run_archive import read_json
from strategies.settings import RunSettings


class RunDisplay:
    """Bars for the rounds and, where organizations work on this machine, for each of them.

    Parameters
    ----------
    settings : RunSettings
        The run's settings.
    folder : Path
        The run's folder, which need not exist yet.
    console : Console
        Where to draw; a console that is no terminal gets one line an event.
    """

    def __init__(self, settings: RunSettings, folder: Path, console: Console) -> None:
        self._log = folder / "run.log"
        self._settings = settings
        self._organizations = settings.home_path / "organizations"
        self._console = console
        self._read = self._log.stat().st_size if self._log.exists() else 0
        self.ended = False
        #: Why the run failed, in its own words.
        self.failure = ""
        self._started = time.time()
        self._round = 0
        self._progress = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[doing]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._rounds = self._progress.add_task(
            "rounds", total=settings.own_rounds, doing="starting"
        )
        here = () if settings.bundle else settings.organization_names
        self._bars: dict[str, TaskID] = {
            name: self._progress.add_task(name, total=None, doing="") for name in here
        }

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh()
        self._progress.stop()

    def refresh(self) -> None:
        """Take in what has happened since the last call."""
        for event in self._new_events():
            self._take(event)
        for name, bar in self._bars.items():
            path = self._organizations / name / "progress.json"
            # Before the organization's first message there is none, or the last run's.
            if not path.exists() or path.stat().st_mtime < self._started:
                continue
            now = read_json(path)
            self._progress.update(
                bar,
                completed=now["done"],
                total=now["total"],
                doing=f"round {now['round']}: {now['doing']}"
                + (f", loss {now['loss']:.3f}" if "loss" in now else ""),
            )

    def _new_events(self) -> list[dict[str, Any]]:
        if not self._log.exists():
            return []
        with self._log.open("rb") as log:
            log.seek(self._read)
            lines = log.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        self._read += sum(map(len, whole))
        return [json.loads(line) for line in whole]

    def _take(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "round-opened":
                self._round = event["round"]
                # After the last one may come another, which only seals what that earned.
                if event["round"] <= self._settings.own_rounds:
                    self._progress.update(
                        self._rounds, completed=event["round"] - 1, doing=f"round {event['round']}"
                    )
            case "round-sealed":
                done = min(event["round"], self._settings.own_rounds)
                self._progress.update(self._rounds, completed=done, doing="sealed")
            case "run-resumed":
                done = min(event["after"], self._settings.own_rounds)
                self._progress.update(self._rounds, completed=done, doing="resumed")
            case "run-finished" | "run-failed":
                self.ended = True
                self.failure = event.get("error", "")
        line = json.dumps(event) if is_verbose() else _line(event, self._round)
        if line:
            self._progress.console.print(
                line, markup=False, highlight=False, soft_wrap=is_verbose()
            )


def _line(event: dict[str, Any], round_number: int) -> str:
    """Say an event in one line; empty where the bars say enough.

    Parameters
    ----------
    event : dict
        As logged.
    round_number : int
        The round that was opened last.
    """
    line = ""
    match event["event"]:
        case "round-sealed":
            line = (
                f"round {event['round']} sealed in block {event['block']}, "
                f"{event['gas_used']:,} gas"
            )
        case "round-unchanged":
            line = f"round {event['round']} changes nothing: {event['reason']}"
        case "round-attested":
            line = f"round {event['round']} attested by {', '.join(event['by'])}"
        case "round-unattested":
            line = (
                f"round {event['round']} is not attested: {len(event['signed'])} of "
                f"{event['needed']} signed"
            )
        case "attestor-refused":
            line = f"{event['organization']}: did not attest: {event['reason']}"
        case "organization-declined":
            line = f"{event['organization']}: declined round {round_number}"
        case "update-rejected":
            line = f"{event['organization']}: rejected ({event['code']}): {event['reason']}"
        case "organization-absent":
            line = f"{event['organization']}: {event['reason']}: {event['error']}"
        case "organization-missing":
            line = f"{event['organization']}: not there at the start: {event['reason']}"
        case "closing-missing":
            line = f"{event['organization']}: not closed: {event['error']}"
    return line
