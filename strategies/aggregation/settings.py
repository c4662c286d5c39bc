"""What the parties agree on before the first round about how updates are combined."""

import math
from dataclasses import dataclass

RULE_NAMES = ("ffa", "alternating", "fedit", "flora", "accumulators")
STATISTIC_NAMES = ("none", "norm-clip", "trimmed-mean", "multi-krum", "geometric-median")

#: Rules whose round trains one factor, the other being the same for all: only there is a mean of
#: factors a mean of updates, and only there can another statistic take the mean's place.
SINGLE_FACTOR_RULES = frozenset({"ffa", "alternating"})


def check_combination(rule: str, robust: str) -> None:
    """Refuse an unknown rule or statistic, and a statistic its rule has no place for.

    Raises
    ------
    ValueError
        One line that names both.
    """
    if rule not in RULE_NAMES:
        raise ValueError(f"unknown aggregation rule {rule!r}: expected one of {_list(RULE_NAMES)}")
    if robust not in STATISTIC_NAMES:
        raise ValueError(
            f"unknown robust statistic {robust!r}: expected one of {_list(STATISTIC_NAMES)}"
        )
    if robust != "none" and rule not in SINGLE_FACTOR_RULES:
        raise ValueError(
            f"robust statistic {robust!r} cannot be combined with aggregation rule {rule!r}: "
            f"it needs a rule that trains one factor, {_list(sorted(SINGLE_FACTOR_RULES))}; "
            "or choose 'none'"
        )


def _list(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(repr(name) for name in names)


@dataclass(frozen=True)
class AggregationSettings:
    """Parameters of a rule and of its robust statistic.

    Parameters
    ----------
    rank : int
        The run's LoRA rank; organizations may train a smaller one.
    alpha : float
        LoRA's alpha. The run has one scale, ``alpha / rank``, whatever an organization's rank.
    seed : int
        Seed of everything drawn, 0 <= seed < 2**64.
    weight_cap : float
        Largest share of one organization in a round, 0 < cap <= 1.
    robust : str
        Robust statistic, one of ``STATISTIC_NAMES``.
    clip_norm : float or None
        ``norm-clip``: bound on the update's norm; None takes each round's lower median norm.
    byzantine : int
        ``trimmed-mean`` and ``multi-krum``: how many organizations may be hostile.
    accumulator_rank : int or None
        ``accumulators``: rank kept for each organization; None takes ``rank``.
    """

    rank: int
    alpha: float
    seed: int = 0
    weight_cap: float = 1.0
    robust: str = "none"
    clip_norm: float | None = None
    byzantine: int = 1
    accumulator_rank: int | None = None

    def __post_init__(self) -> None:
        expectations = {
            "rank": (self.rank, self.rank >= 1, "at least 1"),
            "alpha": (self.alpha, math.isfinite(self.alpha) and self.alpha > 0, "above 0"),
            "seed": (self.seed, 0 <= self.seed < 2**64, "0 <= seed < 2**64"),
            "weight cap": (self.weight_cap, 0 < self.weight_cap <= 1, "0 < cap <= 1"),
            "clip norm": (self.clip_norm, _positive(self.clip_norm), "above 0"),
            "byzantine": (self.byzantine, self.byzantine >= 0, "at least 0"),
            "accumulator rank": (
                self.accumulator_rank,
                self.accumulator_rank is None or self.accumulator_rank >= 1,
                "at least 1",
            ),
        }
        for name, (given, holds, expected) in expectations.items():
            if not holds:
                raise ValueError(f"{name} {given} is out of range: expected {expected}")
        check_combination("ffa", self.robust)

    @property
    def scale(self) -> float:
        """The run's LoRA scale s = alpha / rank."""
        return self.alpha / self.rank


def _positive(value: float | None) -> bool:
    return value is None or (math.isfinite(value) and value > 0)
