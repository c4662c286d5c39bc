"""Room and rights where everything of a home is written."""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from client_app.doctor.check import Finding, fails, holds, warns
from client_app.doctor.machine import Machine

_GIB: Final = 1 << 30
#: The embedded model alone asks for 0.7 GB while it is built, and a ledger or a chain's journal
#: that cannot be written stops a round in its middle.
LEAST_BYTES: Final = 1 * _GIB
#: A larger model, its adapters of some hundred rounds and a backup want several.
ENOUGH_BYTES: Final = 5 * _GIB


def disk(machine: Machine) -> Finding:
    """Look whether the home can be written to, and has room."""
    refusal = refused(machine.home)
    if refusal:
        return fails(
            f"{machine.home} cannot be written to: {refusal}",
            f"call Foedus as the user who owns {machine.home}, on a disk that is not read-only",
        )
    free = shutil.disk_usage(machine.home).free
    found = f"{free / _GIB:.1f} GiB free at {machine.home}"
    remedy = "make room, or move the home to a larger disk (`FOEDUS_HOME`)"
    if free < LEAST_BYTES:
        return fails(f"{found}: less than {LEAST_BYTES / _GIB:g}", remedy)
    if free < ENOUGH_BYTES:
        return warns(f"{found}: less than {ENOUGH_BYTES / _GIB:g}", remedy)
    return holds(found)


def cache(machine: Machine) -> Finding:
    """Look whether models and data can be cached."""
    folder = next(one for one in (machine.cache, *machine.cache.parents) if _is_there(one))
    refusal = refused(folder)
    if refusal:
        return fails(
            f"{machine.cache} cannot be written to: {refusal}",
            f"have {folder} belong to this user, or name another folder (`FOEDUS_CACHE`)",
        )
    return holds(str(machine.cache))


def _is_there(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:
        # Below a folder that may not be entered.
        return False


def refused(folder: Path) -> str:
    """Say why nothing can be written into a folder; empty where it can."""
    try:
        # Asked by doing it: rights alone do not tell of a read-only or a full disk.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
