"""Local differential privacy of a run: how much noise its epsilon takes, and what was spent.

The promise is about an organization's records, towards everybody who sees its updates, the
coordinator and the attestors among them: whether one record or another stood in its place changes
what they see by a factor of ``exp(epsilon)`` at most, but for a probability of ``delta`` (Dwork and
Roth, "The Algorithmic Foundations of Differential Privacy", 2014). Every pass of every round is one
Gaussian mechanism of sensitivity ``2 clip`` (:mod:`llm.private_gradients`); they compose by Renyi
divergences (Mironov, arXiv 1702.07476), as Opacus counts them. That a round draws a part of the
records makes nothing smaller here: who knows a record's id knows in which rounds it is drawn.
"""

from collections.abc import Sequence
from functools import lru_cache

from llm.privacy_settings import PrivacySettings
from strategies.settings import RunSettings

#: Renyi orders that are tried: Opacus' own, and larger ones, which little privacy loss needs.
_ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64)) + [2**k for k in range(6, 15)]
#: How near the noise's epsilon comes to the one asked for, from below.
_TOLERANCE = 1e-3


def privacy_of(settings: RunSettings) -> PrivacySettings | None:
    """Return what each step of a run is clipped and noised by; ``None`` without privacy."""
    if not settings.privacy_epsilon:
        return None
    passes = settings.rounds * settings.epochs
    return PrivacySettings(
        clip=settings.privacy_clip,
        noise_multiplier=noise_multiplier(settings.privacy_epsilon, settings.privacy_delta, passes),
    )


@lru_cache(maxsize=16)
def noise_multiplier(epsilon: float, delta: float, passes: int) -> float:
    """Return the standard deviation, in sensitivities, that keeps so many passes within epsilon.

    Parameters
    ----------
    epsilon, delta : float
        The promise; delta is a probability.
    passes : int
        How often one record may be used.
    """
    # Opacus loads torch's functional interface: seconds, for those who ask for privacy alone.
    from opacus.accountants.utils import get_noise_multiplier  # noqa: PLC0415

    found: float = get_noise_multiplier(
        target_epsilon=epsilon,
        target_delta=delta,
        sample_rate=1.0,
        steps=passes,
        accountant="rdp",
        epsilon_tolerance=_TOLERANCE,
        alphas=_ORDERS,
    )
    return found


def spent_epsilon(passes: Sequence[tuple[float, int]], delta: float) -> float:
    """Return the epsilon that uses of one record have come to.

    Parameters
    ----------
    passes : sequence of (float, int)
        Noise multipliers, and how often the record was used under each; 0 passes cost nothing.
    delta : float
        The probability for which it is stated.
    """
    from opacus.accountants import RDPAccountant  # noqa: PLC0415

    used = [(noise, count) for noise, count in passes if count]
    if not used:
        return 0.0
    accountant = RDPAccountant()
    accountant.history = [(noise, 1.0, count) for noise, count in used]
    return float(accountant.get_epsilon(delta=delta, alphas=_ORDERS))
