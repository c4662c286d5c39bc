"""The embedded model and data from the application cache, so that tests fetch nothing twice."""

import os
from pathlib import Path


def application_cache() -> Path:
    """The folder ``make demo`` fills; made on first use."""
    home = Path(os.environ.get("FOEDUS_HOME") or "~/.foedus").expanduser()
    cache = home / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return cache
