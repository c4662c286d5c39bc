"""What a round scores: leave-one-out over an effort's response, with groups and noise.

The rule is that of :mod:`strategies.contributions`, with the losses taken from the response instead
of a model: with ``k`` silenced the round's summed effort lacks ``k``'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.participation.response import Noise, Response
from strategies.contributions import ScoreLimits
from strategies.scores import micro_nats


@dataclass(frozen=True)
class Update:
    """What one sender sent.

    Parameters
    ----------
    effort : float
        Usefulness times the share of records, in efforts; 0 for noise.
    group : str
        Updates of the same group are near-duplicates. By itself: its own name.
    z : float
        Standard normal: how far its measured gain lies off.
    """

    effort: float
    group: str
    z: float


def scores(
    updates: Mapping[str, Update],
    progress: float,
    response: Response,
    noise: Noise,
    limits: ScoreLimits,
) -> dict[str, int]:
    """Score the accepted updates of a round, in micro-nats by sender.

    Of each group only the largest effort takes part, and its score is shared equally.
    """
    groups: dict[str, list[str]] = {}
    for name, update in updates.items():
        groups.setdefault(update.group, []).append(name)
    stands = [max(names, key=lambda name: updates[name].effort) for names in groups.values()]
    efforts = np.array([updates[name].effort for name in stands])
    gains = expected_gains(efforts, progress, response)
    if len(gains):
        off = np.array([updates[name].z for name in stands])
        after = float(response.loss(progress + response.progress(efforts.sum())))
        gains = gains + noise.deviation(efforts, after) * off
    found: dict[str, int] = {}
    for names, gain in zip(groups.values(), gains, strict=True):
        share = micro_nats(limits.score(float(gain))) // len(names)
        found |= dict.fromkeys(names, share)
    return found


def expected_gains(
    efforts: NDArray[np.float64] | Sequence[float], progress: float, response: Response
) -> NDArray[np.float64]:
    """Return ``L(all, k silenced) - L(all)`` for each effort, nats.

    Parameters
    ----------
    efforts : array_like of float64, (..., k)
        Of the updates of a round.
    progress : float
        Before it.
    response : Response
        Loss by progress.
    """
    effort = np.asarray(efforts, dtype=np.float64)
    whole = effort.sum(axis=-1, keepdims=True)
    after = response.loss(progress + response.progress(whole))
    # Sums minus a part may fall below 0 by rounding.
    without = response.progress(np.maximum(whole - effort, 0.0))
    # Nor is a gain less than 0 by rounding.
    gains: NDArray[np.float64] = np.maximum(response.loss(progress + without) - after, 0.0)
    return gains
