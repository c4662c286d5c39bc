"""A run's log: one JSON line an event, for people with grep and for the progress display."""

import json
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

    def __call__(self, event: str, particulars: Mapping[str, Any]) -> None:
        """Write one event."""
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        line = json.dumps({**entry, **particulars}, default=str)
        with self.path.open("a") as log:
            log.write(line + "\n")
        _logger.info("%s %s", event, json.dumps(dict(particulars), default=str))
