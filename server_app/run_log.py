"""A run's log: one JSON line an event, for people with grep and for the progress display."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from logging import getLogger
from pathlib import Path
from typing import Any

_logger = getLogger("foedus")


class RunLog:
    """Appends events to ``run.log``.

    Parameters
    ----------
    path : Path
        The log file; made if missing, appended to if a run is resumed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            # A kill may have cut the last line.
            content = path.read_bytes()
            if not content.endswith(b"\n"):
                os.truncate(path, content.rfind(b"\n") + 1)

    def __call__(self, event: str, particulars: Mapping[str, Any]) -> None:
        """Write one event."""
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        line = json.dumps({**entry, **particulars}, default=str)
        with self.path.open("a") as log:
            log.write(line + "\n")
        _logger.info("%s %s", event, json.dumps(dict(particulars), default=str))

    def covered_seconds(self) -> float:
        """Add up the attempts logged so far, each from its start to its last event."""
        attempts: list[list[datetime]] = []
        for entry in self._events():
            if entry["event"] == "run-started" or not attempts:
                attempts.append([])
            attempts[-1].append(datetime.fromisoformat(entry["time"]))
        return sum((times[-1] - times[0]).total_seconds() for times in attempts)

    def logged_seconds(self, event: str) -> float:
        """Add up the ``seconds`` of every event of one kind."""
        return float(sum(e["seconds"] for e in self._events() if e["event"] == event))

    def _events(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
