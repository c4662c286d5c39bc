"""What is compared: every study is a list of experiments, each with a name for people."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from benchmarks.experiments.experiment import Attack, AttackKind, Experiment

#: A name and the experiment of that name.
Named = tuple[str, Experiment]

_STATISTICS: Final = ("none", "norm-clip", "trimmed-mean", "multi-krum", "geometric-median")
_OTHER_RULES: Final = ("alternating", "fedit", "flora", "accumulators")
_ATTACKS: Final[tuple[AttackKind, ...]] = (
    "noise",
    "loud-noise",
    "flipped-labels",
    "scaled",
    "copied",
)
#: What the bound on norms can see; any other update is of the size of an honest one.
_BEYOND_THE_BOUND: Final = ("loud-noise", "scaled")


def robustness(seed: int) -> Iterator[Named]:
    """Eight organizations, of which none, one or two are hostile, under every rule.

    With the norm bound, and without it where it rejects anything. Two are hostile under ``ffa``
    alone, whose statistics are there for it.
    """
    size = {"seed": seed, "rounds": 3, "records_per_round": 64}
    rules: list[tuple[str, dict[str, Any]]] = [
        ("ffa" if robust == "none" else f"ffa, {robust}", {"robust": robust, "byzantine": 2})
        for robust in _STATISTICS
    ]
    rules += [(rule, {"aggregation": rule}) for rule in _OTHER_RULES]
    for rule, settings in rules:
        for attack in _attacks(two=rule.startswith("ffa")):
            bounds = (100.0, 0.0) if attack and attack.kind in _BEYOND_THE_BOUND else (100.0,)
            for bound in bounds:
                what = f"{attack.kind} x{attack.hostile}" if attack else "nobody hostile"
                name = f"{rule}/{what}{'' if bound else '/no bound'}/{seed}"
                yield (
                    name,
                    Experiment(
                        world="halves",
                        attack=attack,
                        settings={**size, **settings, "norm_bound": bound},
                        test_rows=200,
                    ),
                )


def _attacks(*, two: bool) -> Iterator[Attack | None]:
    yield None
    for kind in (*_ATTACKS, "absent"):
        for hostile in (1, 2) if two else (1,):
            yield Attack(kind=kind, hostile=hostile)


#: The studies by name: each gives its experiments for a seed.
STUDIES: Final[Mapping[str, Callable[[int], Iterator[Named]]]] = {"robustness": robustness}
