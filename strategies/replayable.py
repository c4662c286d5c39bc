"""Whether the rounds of a run can be made once more, and where it stands what came of that."""

from collections.abc import Mapping
from typing import Any, Final

from strategies.run_archive import RunArchive
from strategies.settings import RunSettings

#: Name of the file in the run's folder: what came of the last time.
REPLAYED: Final = "replayed.json"


def replayable_problem(archive: RunArchive, settings: RunSettings) -> str:
    """Say why the rounds of a run cannot be made once more; empty where they can.

    Parameters
    ----------
    archive : RunArchive
        The run.
    settings : RunSettings
        Its settings.
    """
    run = archive.read_run()
    if not settings.requests or settings.unlearners or settings.leavers:
        return f"run {archive.name!r} made no rounds of another run again"
    if run.get("status") == "replaced":
        return (
            f"the rounds of run {archive.name!r} were themselves replaced, by run {run['by']!r}, "
            "and what they were made of is deleted"
        )
    if run.get("status") != "finished":
        return f"run {archive.name!r} is {run.get('status')}, expected it to be finished"
    return ""


def differences(replayed: Mapping[str, Any]) -> list[str]:
    """Return what came out otherwise, by round, of what the file says; nothing where all is alike.

    Parameters
    ----------
    replayed : mapping
        The file's content.
    """
    return [
        f"round {one['round']}: {line}" for one in replayed["rounds"] for line in one["differences"]
    ]
