"""Have the rounds of a replay made once more on this machine: ``foedus receipt --replay``."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from client_app.cli.output import fail, progress_console
from client_app.cli.submitted import submitted

if TYPE_CHECKING:
    from strategies.run_archive import RunArchive
    from strategies.settings import RunSettings


def replayed(archive: "RunArchive") -> dict[str, Any]:
    """Make the rounds of a run once more, showing how far it is.

    Parameters
    ----------
    archive : RunArchive
        A run that made another one's rounds again.

    Returns
    -------
    dict
        What ``replayed.json`` says, where all rounds were made; what differs stands in it.
    """
    from client_app.cli.chosen import settings_of
    from strategies.replayable import REPLAYED, replayable_problem
    from strategies.run_archive import read_json

    settings, path = settings_of(archive), archive.folder / REPLAYED
    if problem := replayable_problem(archive, settings):
        fail(f"--replay: {problem}", 2)
    with _Rounds(settings, path) as rounds:
        failed = submitted(settings, {"mode": "replay", "run-name": archive.name}, rounds.refresh)
    found = read_json(path) if rounds.is_written() else {}
    if found.get("status") != "finished":
        fail(f"--replay: the run that makes the rounds once more failed: {failed or 'no word'}")
    return found


class _Rounds:
    """A bar over the rounds, and what each organization is at."""

    def __init__(self, settings: "RunSettings", path: Path) -> None:
        self._settings, self._path = settings, path
        self._started = time.time()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[doing]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=progress_console,
        )
        self._bar = self._progress.add_task("rounds, once more", total=None, doing="starting")

    def __enter__(self) -> "_Rounds":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def is_written(self) -> bool:
        """Whether the file is this run's, and no earlier one's."""
        return self._path.exists() and self._path.stat().st_mtime >= self._started

    def refresh(self) -> bool:
        """Show how far it is; return whether it seems to have ended."""
        from strategies.run_archive import read_json

        if not self.is_written():
            return False
        found = read_json(self._path)
        self._progress.update(
            self._bar,
            completed=len(found["rounds"]),
            total=found["rounds_in_all"],
            doing=self._doing(),
        )
        return bool(found["status"] != "running")

    def _doing(self) -> str:
        """Say what the organization that was heard of last is at."""
        from strategies.run_archive import read_json

        places = [
            self._settings.home_path / "organizations" / name / "progress.json"
            for name in self._settings.organization_names
        ]
        newest = max(
            (path for path in places if path.exists() and path.stat().st_mtime > self._started),
            key=lambda path: path.stat().st_mtime,
            default=None,
        )
        if newest is None:
            return ""
        now = read_json(newest)
        return f"{newest.parent.name}: {now['doing']}, step {now['done']} of {now['total']}"
