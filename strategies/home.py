"""Where everything of an installation lies: the home folder, and the cache in it."""

import os
from pathlib import Path


def foedus_home(home: str = "") -> Path:
    """Return the given home, else ``FOEDUS_HOME``, else ``~/.foedus``, absolute."""
    return Path(home or os.environ.get("FOEDUS_HOME") or "~/.foedus").expanduser().absolute()


def cache_folder(home: Path) -> Path:
    """Return where models and data are cached: ``FOEDUS_CACHE``, else ``<home>/cache``."""
    return Path(os.environ.get("FOEDUS_CACHE") or home / "cache").expanduser().absolute()


def organization_folder(home: Path, organization: str) -> Path:
    """Return where an organization keeps what is its own: keys, replies, receipts."""
    return home / "organizations" / organization


def ledger_folder(home: Path, organization: str) -> Path:
    """Return where an organization's private ledger lies."""
    return organization_folder(home, organization) / "ledger"
