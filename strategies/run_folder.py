"""Which folder a run has: a new one, or that of the run to resume."""

from datetime import UTC, datetime
from pathlib import Path

from strategies.run_archive import newest_run
from strategies.settings import RunSettings, SettingsError


def run_folder(settings: RunSettings) -> Path:
    """Return the folder of the run that the settings start or resume; nothing is made.

    Raises
    ------
    SettingsError
        If a new run's name is taken, or there is no run to resume.
    """
    home = settings.home_path
    if not settings.resume:
        name = settings.run_name or datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        folder = home / "runs" / name
        if (folder / "run.json").exists():
            raise SettingsError(
                f"run-name: {name!r} exists under {home}; choose another, or set resume=true"
            )
        return folder
    if settings.run_name:
        folder = home / "runs" / settings.run_name
        if not (folder / "run.json").exists():
            raise SettingsError(f"resume: there is no run {settings.run_name!r} under {home}")
        return folder
    archive = newest_run(home, unfinished=True)
    if archive is None:
        raise SettingsError(f"resume: there is no unfinished run under {home}")
    return archive.folder
