"""What each organization did in each round, what it spent on it and what it earned."""

from collections.abc import Iterable, Mapping
from typing import Any

from strategies.effort import EFFORT_NAMES
from strategies.replies import VERDICTS_OF_SOUND_UPDATES, Verdict
from strategies.rewards import WEI_PER_GWEI, RewardTerms, round_rewards
from strategies.round_outcome import Entry, RoundOutcome
from strategies.run_archive import RunArchive
from strategies.settings import RunSettings


def rounds_of(
    settings: RunSettings, archive: RunArchive, organizations: Iterable[str], rounds: Iterable[int]
) -> dict[str, list[dict[str, Any]]]:
    """Return one item for each organization and round.

    ``did`` is ``low``, ``mid``, ``high`` or, where the reply names no effort of the terms,
    ``trained``; or ``declined``, ``rejected``, ``late``, ``failed`` or ``unsigned``; where one
    organization unlearns, ``unlearned``, and ``not asked`` of the others. ``effort`` is
    in percent, ``None`` where there is none. ``tokens`` and effort are what the organization
    reported with a reply that held, ``earned_gwei`` what the attested scores came to: ``None``
    where the round was not attested, 0 where that was too late for a later round to seal it.

    Parameters
    ----------
    settings : RunSettings
        The run's settings.
    archive : RunArchive
        Its folder, with every round in it.
    organizations : iterable of str
        Whose.
    rounds : iterable of int
        Those in which organizations could train.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in organizations}
    counted = _counted_rounds(archive)
    for number in rounds:
        outcome = RoundOutcome.from_manifest(archive.manifest(number))
        metrics = archive.record(number)["metrics"]
        earned = _earned(settings, archive, number, counted)
        for name, items in found.items():
            reported = metrics.get(name, {})
            did, effort = _did(settings, outcome, name, reported.get("effort"))
            items.append(
                {
                    "round": number,
                    "did": did,
                    "effort": effort,
                    "tokens": max(0, int(reported.get("tokens", 0))),
                    "earned_gwei": None if earned is None else earned.get(name, 0) // WEI_PER_GWEI,
                }
            )
    return found


def _did(
    settings: RunSettings, outcome: RoundOutcome, organization: str, effort: float | None
) -> tuple[str, int | None]:
    """Return what an organization did, and its effort in percent."""
    reply = _reply(outcome, organization)
    if settings.first_rounds.asked_in(outcome.round) is not None:
        return ("unlearned" if reply is not None else "not asked"), None
    if reply is None:
        return outcome.absent.get(organization, "late"), None
    if reply.verdict == Verdict.DECLINED:
        return "declined", None
    if reply.verdict not in VERDICTS_OF_SOUND_UPDATES:
        return "rejected", None
    for name, percent in zip(EFFORT_NAMES, settings.effort.percents, strict=True):
        if effort == percent:
            return name, percent
    return "trained", None


def _reply(outcome: RoundOutcome, organization: str) -> Entry | None:
    """Return the entry of what came as a reply: one known from the chain alone is not signed."""
    return next(
        (e for e in outcome.entries if e.organization == organization and e.signature), None
    )


def _counted_rounds(archive: RunArchive) -> set[int]:
    """Return the rounds whose rewards a later one sealed, of those the last one builds on."""
    counted, number = set(), archive.last_prepared_round() or 0
    while number > 0:
        outcome = RoundOutcome.from_manifest(archive.manifest(number))
        counted.add(outcome.rewards.round)
        number = outcome.parent_round
    return counted


def _earned(
    settings: RunSettings, archive: RunArchive, number: int, counted: set[int]
) -> Mapping[str, int] | None:
    """Return what a round earned, wei by organization; ``None`` where it was not attested."""
    attestation = archive.attestation(number)
    if attestation is None or attestation.landed is None:
        return None
    if number not in counted:
        return {}
    terms = RewardTerms.of(settings)
    return round_rewards(attestation.scores.scores, pool=terms.pool, constant=terms.constant)
