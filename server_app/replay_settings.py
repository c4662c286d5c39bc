"""The settings of a run that takes another one's place, for the sake of requests to forget."""

import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from strategies.origin import run_of_task
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import ArchiveError, RunArchive, read_json
from strategies.settings import RunSettings, SettingsError

_log = logging.getLogger(__name__)

_SUFFIX: Final = re.compile(r"-unlearned-\d+$")


def settings_of(archive: RunArchive) -> RunSettings:
    """Return a run's settings, where it lies now."""
    kept = {**archive.read_settings(), "home": str(archive.home), "resume": False}
    return RunSettings.from_run_config(kept)


def runs_with_tasks(home: Path) -> list[tuple[RunArchive, RunSettings, bytes]]:
    """Return every run under a home that opened a task, with its settings and the task, by age.

    What another version wrote, and this one cannot read, is none that it could carry on: a warning
    names it.
    """
    found = []
    for path in (home / "runs").glob("*/run.json"):
        archive = RunArchive(path.parent)
        try:
            run, settings = archive.read_run(), settings_of(archive)
        except (ArchiveError, SettingsError) as error:
            _log.warning("%s is left out: %s", path.parent, error)
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
    from instead, and what that run's successors left out stays left out. Rounds that unlearned by
    training, or recovered from it, are not made again, nor can be: what they began from is deleted.
    Then the replay begins before all that they made the model forget.

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
    kept = standing.kept_rounds.keeping(task, first_to_replace(archive, first) - 1)
    origin, carried_out = standing, set(requests)
    if kept.replaced is not None and kept.replaced != task:
        origin = settings_of(run_of_task(archive.home, kept.replaced))
        carried_out |= set(standing.request_ids)
    return changed(
        origin,
        {
            "run-name": new_name(archive),
            "mode": "train",
            "lineage": str(kept),
            "requests": _listed(carried_out),
            "unlearners": "",
            "leavers": "",
            **_without(standing, origin, gone),
        },
    )


def _without(
    standing: RunSettings, origin: RunSettings, gone: Collection[str]
) -> dict[str, str | int]:
    """Return what changes among a run's settings where organizations leave one that stands."""
    left = {*gone, *standing.leaver_names}
    stay = [name for name in standing.organization_names if name not in left]
    prices = origin.token_prices_given.items()
    return {
        "organizations": ",".join(stay),
        "attestors": ",".join(_attestors(standing, stay)),
        "ranks": ",".join(f"{n}={r}" for n, r in origin.ranks_given.items() if n in stay),
        "token-prices": ",".join(f"{n}={p}" for n, p in prices if n in stay),
        "min-organizations": min(origin.min_organizations, len(stay)),
    }


def first_to_replace(archive: RunArchive, first: int) -> int:
    """Return the logical round from which on rounds are made again, if one is to be.

    Parameters
    ----------
    archive : RunArchive
        The run as it stands.
    first : int
        The first affected logical round.
    """
    spans = settings_of(archive).kept_rounds.spans[::-1]
    for run in (archive, *(run_of_task(archive.home, span.task) for span in spans)):
        then = settings_of(run)
        if (
            not then.requests
            or first > then.kept_rounds.after + then.first_rounds.last_not_replayed
        ):
            continue
        # What was deleted for its requests begins before the rounds that it kept, where it made
        # none again.
        plans = read_json(run.folder / "plans.json")
        first = min(first, *(min(plan["rounds"]) for plan in plans.values()))
    return first


def forgetting(
    archive: RunArchive,
    requests: Collection[bytes],
    unlearners: Collection[str],
    gone: Collection[str],
) -> RunSettings:
    """Return the settings of the run that goes on from another one and unlearns by training.

    All of its rounds are kept. What it has still to come follows the recovery. Whoever leaves is
    there for the round in which it unlearns, and no longer.

    Parameters
    ----------
    archive : RunArchive
        The run as it stands.
    requests : collection of bytes
        Ids of the requests, 32 bytes each.
    unlearners : collection of str
        Whose they are.
    gone : collection of str
        Which of them leave: their own terms are taken out first.
    """
    standing = settings_of(archive)
    there = [n for n in standing.organization_names if n not in standing.leaver_names]
    return _going_on(
        archive,
        requests,
        gone,
        {
            "rounds": standing.rounds + len(set(unlearners)) + standing.recovery_after(bool(gone)),
            "unlearners": ",".join(sorted(set(unlearners))),
            "organizations": ",".join(there),
            "ranks": ",".join(f"{n}={r}" for n, r in standing.ranks_given.items() if n in there),
        },
    )


def leaving_away(
    archive: RunArchive, requests: Collection[bytes], gone: Collection[str]
) -> RunSettings:
    """Return the settings of the run that goes on without some organizations' isolated adapters.

    All rounds are kept, and none is made again. One that nobody trains in seals what is left; what
    the run has still to come follows.

    Parameters
    ----------
    archive : RunArchive
        The run as it stands.
    requests : collection of bytes
        Ids of the requests, 32 bytes each.
    gone : collection of str
        Whose they are.
    """
    changes = {"rounds": settings_of(archive).rounds + 1, "unlearners": ""}
    return _going_on(archive, requests, gone, changes)


def _going_on(
    archive: RunArchive,
    requests: Collection[bytes],
    gone: Collection[str],
    changes: Mapping[str, Any],
) -> RunSettings:
    """Return the settings of a run that keeps all rounds of another one, with some changes."""
    standing = settings_of(archive)
    task = bytes.fromhex(archive.read_run()["task"])
    kept = standing.kept_rounds.keeping(task, last_logical_round(archive, standing))
    return changed(
        standing,
        {
            "run-name": new_name(archive),
            "mode": "train",
            "lineage": str(kept),
            "requests": _listed(requests),
            "leavers": ",".join(sorted(gone)),
            **_without(standing, standing, gone),
            **changes,
        },
    )


def last_logical_round(archive: RunArchive, settings: RunSettings) -> int:
    """Return the last logical round that a run came to; one that only sealed rewards is none."""
    own, first = archive.last_prepared_round() or 0, settings.first_rounds
    while own > first.leaving and not RoundOutcome.from_manifest(archive.manifest(own)).invited:
        own -= 1
    return min(settings.rounds, settings.kept_rounds.after + own)


def _listed(requests: Collection[bytes]) -> str:
    return ",".join(f"0x{one.hex()}" for one in sorted(requests))


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
