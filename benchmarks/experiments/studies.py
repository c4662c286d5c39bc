"""What is compared: every study is a list of experiments, each with a name for people."""

from collections.abc import Callable, Iterator
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
    """Compare rules among eight organizations, of which none, one or two are hostile.

    With the norm bound, and without it where it rejects anything. Two are hostile under ``ffa``
    alone, whose statistics are there for it.
    """
    size = {"seed": seed, "rounds": 2, "records_per_round": 64}
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
                        test_rows=100,
                    ),
                )


def _attacks(*, two: bool) -> Iterator[Attack | None]:
    yield None
    for kind in (*_ATTACKS, "absent"):
        for hostile in (1, 2) if two else (1,):
            yield Attack(kind=kind, hostile=hostile)


def together(seed: int) -> Iterator[Named]:
    """Compare training together with the base, each alone, all rows in one place, and FedIT.

    On the four natural domains, and on film reviews and tweets split by a Dirichlet distribution.
    Every round is evaluated; round 0 is the untouched base.
    """
    sizes: list[tuple[str, dict[str, Any]]] = [
        ("domains", {"settings": {"seed": seed}, "test_rows": 100})
    ]
    sizes += [
        (
            f"{world}, Dirichlet {alpha:g}",
            {
                "world": world,
                "alpha": alpha,
                "settings": {"seed": seed, "rounds": 3, "records_per_round": 64},
                "test_rows": 60,
            },
        )
        for world in ("cinema", "microblog")
        for alpha in (0.1, 1.0)
    ]
    for name, given in sizes:
        for way in ("federated", "alone", "pooled"):
            yield (
                f"{name}/{way}/{seed}",
                Experiment.model_validate({**given, "together": way, "every_round": True}),
            )
        averaged = {**given["settings"], "aggregation": "fedit"}
        yield (
            f"{name}/fedit/{seed}",
            Experiment.model_validate({**given, "settings": averaged, "every_round": True}),
        )


def rules(seed: int) -> Iterator[Named]:
    """Compare the aggregation rules on the four domains, with equal ranks and with mixed ones."""
    for rule in ("ffa", *_OTHER_RULES):
        for name, ranks in (("equal ranks", ""), ("mixed ranks", "shop=8,newspaper=4")):
            settings = {
                "seed": seed,
                "rounds": 4,
                "records_per_round": 64,
                "aggregation": rule,
                "ranks": ranks,
            }
            yield f"{rule}/{name}/{seed}", Experiment(settings=settings, test_rows=150)


def privacy(seed: int) -> Iterator[Named]:
    """Compare local differential privacy at three epsilons with training without it.

    All rows of a small pool in every round, in one batch, which is what privacy needs: ``as usual``
    is a run of as many records in batches of 16, ``no noise`` the same large batch, neither clipped
    nor noised. Where labels are learned accuracy can be told; where texts are, what is remembered.
    """
    for form in ("label", "text"):
        for name, settings in _PRIVACY.items():
            yield (
                f"{form}/{name}/{seed}",
                Experiment(
                    settings={"seed": seed, **_PRIVATE_SIZE, **settings},
                    form=form,
                    pool=_PRIVATE_SIZE["records_per_round"],
                    membership=True,
                    test_rows=_PRIVATE_SIZE["records_per_round"],
                ),
            )


_PRIVATE_SIZE: Final[dict[str, Any]] = {
    "rounds": 3,
    "records_per_round": 192,
    "rank": 4,
    "alpha": 8.0,
    "target_modules": "q_proj,v_proj",
    "warmup_steps": 0,
}
_LARGE_BATCH: Final = {"batch_size": 192}
_PRIVACY: Final[dict[str, dict[str, Any]]] = {
    "as usual": {},
    "no noise": _LARGE_BATCH,
    **{f"epsilon {e:g}": {**_LARGE_BATCH, "privacy_epsilon": e} for e in (8.0, 4.0, 2.0)},
}

#: The studies by name: each gives its experiments for a seed.
STUDIES: Final[dict[str, Callable[[int], Iterator[Named]]]] = {
    "together": together,
    "rules": rules,
    "robustness": robustness,
    "privacy": privacy,
}
