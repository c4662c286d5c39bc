"""What an organization's updates may have said of one of its records, from its private ledger."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from blockchain.private.ledger import Ledger
from blockchain.private.record_types import TrainingRun
from strategies.privacy import noise_multiplier, spent_epsilon
from strategies.settings import RunSettings

_PURPOSE: Final = "to add up what was spent of privacy"
_DEFAULTS: Final = RunSettings()


@dataclass(frozen=True)
class PrivacySpent:
    """What was spent.

    Parameters
    ----------
    rounds, unprotected : int
        Rounds that it trained in; and those of them without noise.
    epsilon : float
        Of any one record; infinite where a round was without noise.
    delta : float
        For which that is stated.
    unreadable : int
        Rounds whose records were erased: what they spent is not in it.
    """

    rounds: int
    unprotected: int
    epsilon: float
    delta: float
    unreadable: int


def privacy_spent(ledger: Ledger, delta: float) -> PrivacySpent:
    """Add up the passes of all runs and replays that the ledger knows of.

    Each counts for every record, whether it was drawn or not: another record in its place might
    have been.

    Parameters
    ----------
    ledger : Ledger
        Open, by a member who may read training runs: the reading is logged.
    delta : float
        The probability for which epsilon is stated.
    """
    readable = ledger.payloads_left(TrainingRun.record_type)
    runs = [
        opened.payload
        for opened in ledger.read_all(readable, _PURPOSE)
        if isinstance(opened.payload, TrainingRun)
    ]
    passes: Counter[float] = Counter()
    unprotected = 0
    for run in runs:
        noise, count = _noise_of(run.configuration)
        unprotected += noise == 0.0
        passes[noise] += count
    epsilon = math.inf if unprotected else spent_epsilon(list(passes.items()), delta)
    written = len(ledger.leaves(TrainingRun.record_type))
    return PrivacySpent(written, unprotected, epsilon, delta, unreadable=written - len(runs))


def _noise_of(configuration: Mapping[str, Any]) -> tuple[float, int]:
    """Return the noise multiplier of a round, 0 without noise, and its passes over a record."""
    passes = int(configuration.get("epochs", _DEFAULTS.epochs))
    if "privacy-epsilon" not in configuration:
        return 0.0, passes
    epsilon = float.fromhex(str(configuration["privacy-epsilon"]))
    delta = _DEFAULTS.privacy_delta
    if "privacy-delta" in configuration:
        delta = float.fromhex(str(configuration["privacy-delta"]))
    rounds = int(configuration.get("rounds", _DEFAULTS.rounds))
    return noise_multiplier(epsilon, delta, rounds * passes), passes
