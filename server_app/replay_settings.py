"""The settings of a run that makes rounds of another again, without what is to be forgotten."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from strategies.origin import run_of_task
from strategies.run_archive import ArchiveError, RunArchive
from strategies.settings import RunSettings, SettingsError

_SUFFIX: Final = re.compile(r"-unlearned-\d+$")


def settings_of(archive: RunArchive) -> RunSettings:
    """Return a run's settings, where it lies now."""
    kept = {**archive.read_settings(), "home": str(archive.home), "resume": False}
    return RunSettings.from_run_config(kept)


def runs_with_tasks(home: Path) -> list[tuple[RunArchive, RunSettings, bytes]]:
    """Return every run under a home that opened a task, with its settings and the task, by age.

    What another version wrote, and this one cannot read, is none that it could carry on.
    """
    found = []
    for path in (home / "runs").glob("*/run.json"):
        archive = RunArchive(path.parent)
        try:
            run, settings = archive.read_run(), settings_of(archive)
        except (ArchiveError, SettingsError):
            continue
        if "task" in run:
            key = (str(run.get("started", "")), archive.name)
            found.append((key, archive, settings, bytes.fromhex(str(run["task"]))))
    return [(archive, settings, task) for _, archive, settings, task in sorted(found, key=_age)]


def _age(found: tuple[tuple[str, str], RunArchive, RunSettings, bytes]) -> tuple[str, str]:
    return found[0]


def root_of(settings: RunSettings, task: bytes) -> bytes:
    """Return the first task that a run goes on from; its own where it begins by itself."""
    spans = settings.kept_rounds.spans
    return spans[0].task if spans else task


def changed(settings: RunSettings, changes: Mapping[str, Any]) -> RunSettings:
    """Return settings with some others, checked as all are."""
    return RunSettings.from_run_config({**settings.to_run_config(), **changes})


def replaying(
    archive: RunArchive, requests: Collection[bytes], *, first: int, gone: Collection[str]
) -> RunSettings:
    """Return the settings of the run that takes another one's place.

    Where the first affected round is one that the run has itself kept, an earlier run is gone on
    from instead, and what that run's successors left out stays left out.

    Parameters
    ----------
    archive : RunArchive
        The run as it stands.
    requests : collection of bytes
        Ids of the requests, 32 bytes each.
    first : int
        The first affected logical round.
    gone : collection of str
        Organizations that are forgotten as a whole.
    """
    standing = settings_of(archive)
    task = bytes.fromhex(archive.read_run()["task"])
    kept = standing.kept_rounds.keeping(task, first - 1)
    origin, carried_out = standing, set(requests)
    if kept.replaced is not None and kept.replaced != task:
        origin = settings_of(run_of_task(archive.home, kept.replaced))
        carried_out |= set(standing.request_ids)
    stay = [name for name in standing.organization_names if name not in gone]
    return changed(
        origin,
        {
            "run-name": new_name(archive),
            "mode": "train",
            "lineage": str(kept),
            "requests": ",".join(f"0x{one.hex()}" for one in sorted(carried_out)),
            "organizations": ",".join(stay),
            "attestors": ",".join(_attestors(standing, stay)),
            "ranks": ",".join(f"{n}={r}" for n, r in origin.ranks_given.items() if n in stay),
            "token-prices": ",".join(
                f"{n}={p}" for n, p in origin.token_prices_given.items() if n in stay
            ),
            "min-organizations": min(origin.min_organizations, len(stay)),
        },
    )


def new_name(archive: RunArchive) -> str:
    """Return the name of the run that takes a run's place."""
    base, runs = _SUFFIX.sub("", archive.name), archive.home / "runs"
    number = 1
    while _taken(runs / f"{base}-unlearned-{number}"):
        number += 1
    return f"{base}-unlearned-{number}"


def _taken(folder: Path) -> bool:
    return (folder / "run.json").exists()


def _attestors(standing: RunSettings, stay: list[str]) -> list[str]:
    """Return who attests: as many as before, of those that stay."""
    before = standing.attestor_names
    left = [name for name in before if name in stay]
    others = [name for name in stay if name not in left]
    return left + others[: len(before) - len(left)]
