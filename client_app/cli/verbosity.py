"""``foedus --verbose``: what goes on, one JSON line a piece, on standard error.

Quiet is the default: warnings of ours, and nothing else.
"""

import json
import logging
import os
from datetime import UTC, datetime
from typing import Final

#: Where the rest of the command looks; whoever sets it has a run's events shown whole.
_VARIABLE: Final = "FOEDUS_VERBOSE"
#: Packages of ours, and the log of a run's events.
_OURS: Final = (
    "blockchain",
    "client_app",
    "llm",
    "server_app",
    "strategies",
    "unlearning",
    "foedus",
)


class JsonLines(logging.Formatter):
    """Lays a record out as one line: time, level, who says it, what."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def speak_up() -> None:
    """Have everything of ours logged from now on."""
    os.environ[_VARIABLE] = "1"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        # Once is enough: others' handlers, such as Flower's, would say it again.
        logger.propagate = False


def is_verbose() -> bool:
    """Whether everything is to be said."""
    return bool(os.environ.get(_VARIABLE))
