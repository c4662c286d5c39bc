"""Compares participation policies in the calibrated environment.

    python -m benchmarks.participation.study [--seeds 20] [--quick] [--processes 1]

For each seed organizations are drawn, the same for every pool; agents start from the shipped tables
and learn on training tasks of their own; then every policy plays the same fresh tasks. Welfare is
the value of the loss's fall less what all organizations spent, in units of what everybody's full
effort over the task costs; that full effort is worth R times its cost, R = 2 unless said. A benefit
is claimed only where the 95 % interval of the paired difference to the best of the four fixed
actions, chosen afterwards for each seed, lies above 0.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.participation.environment import ParticipationEnvironment
from benchmarks.participation.equilibrium import equilibrium
from benchmarks.participation.federation import Federation, continued, draw_federation
from benchmarks.participation.learn_tables import DECISIONS, SHIPPED, TABLES, learn, read_tables
from benchmarks.participation.measures import Measured, full_fall, interval, measure, regret
from benchmarks.participation.optimum import central_optimum, value_per_nat
from benchmarks.participation.policies import (
    Fixed,
    Learned,
    Myopic,
    Planned,
    Policy,
    Random,
    Threshold,
    play,
    started_agents,
)
from benchmarks.participation.recovery import recovery
from benchmarks.participation.response import Calibration
from benchmarks.provenance import RESULTS, provenance
from client_app.agent.action_space import ACTIONS
from client_app.agent.double_q import DoubleQ

OUTPUT: Final = RESULTS / "participation.json"
POOLS: Final = (0.25, 0.5, 1.0, 2.0)
WORTHS: Final = (1, 2, 4)
HEADLINE: Final = 2
#: Pools up to this share of the cost are scarce.
SCARCE: Final = 1.0
FIXED: Final = tuple(f"always {action}" for action in ACTIONS)
BASELINES: Final = (*FIXED, "best fixed", "random", "myopic", "threshold", "bandit")
CHOSEN: Final = ("learned", "learning")


@dataclass(frozen=True)
class Setting:
    """A kind of federation.

    Parameters
    ----------
    name : str
        What it is called.
    size : int
        How many organizations.
    plain : bool
        Without budgets and lost updates: the optimum and the equilibrium are exact.
    behind : int
        Rounds of everybody's full effort that the adapter has behind it already.
    constant : int
        Micro-nats in the denominator of a reward.
    """

    name: str
    size: int
    plain: bool
    behind: int = 0
    constant: int = 10_000


SETTINGS: Final = (
    Setting("3 plain", 3, plain=True),
    Setting("5 plain", 5, plain=True),
    Setting("5 plain, continued", 5, plain=True, behind=1),
    Setting("5 plain, continued, small constant", 5, plain=True, behind=1, constant=1000),
    Setting("5", 5, plain=False),
    Setting("8", 8, plain=False),
)


@dataclass(frozen=True)
class Effort:
    """How much is trained and played for a seed.

    Parameters
    ----------
    training, evaluation : int
        Tasks that agents learn on, and that policies are compared on.
    """

    training: int
    evaluation: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two seeds, little training")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    seeds, effort = (2, Effort(3, 1)) if options.quick else (options.seeds, Effort(30, 2))
    console, started = Console(stderr=True, width=180), time.perf_counter()
    # A bandit's start is learned in the same way, on fewer tasks: it has nothing to look ahead to.
    bandit = learn(DECISIONS // (100 if options.quick else 5), discount=0.0)
    tables = read_tables(TABLES)
    one = partial(run_seed, tables=tables, bandit=bandit, effort=effort)
    with ProcessPoolExecutor(options.processes) as pool:
        by_seed = list(pool.map(one, range(seeds)))
    result: dict[str, Any] = {
        **provenance("python -m benchmarks.participation.study", "numpy", "scipy", "pettingzoo"),
        "seeds": seeds,
        "training_tasks": effort.training,
        "evaluation_tasks": effort.evaluation,
        "headline_worth": HEADLINE,
        "settings": {key: summary([one[key] for one in by_seed]) for key in by_seed[0]},
        "recovery": recovery(tables, seeds, quick=options.quick),
        "seconds": time.perf_counter() - started,
    }
    options.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    show(result, console)
    from benchmarks.participation.plots import draw  # noqa: PLC0415  (matplotlib)

    draw(result, options.output.with_suffix(".png"))


def federation_of(setting: Setting, pool: float, seed: int) -> Federation:
    """Return a seed's federation: the same organizations whatever the pool."""
    random = np.random.default_rng([seed, setting.size, setting.plain])
    federation = draw_federation(
        random, setting.size, pool, Calibration.load(), plain=setting.plain
    )
    terms = replace(federation.terms, constant=setting.constant)
    return continued(replace(federation, terms=terms), setting.behind)


def run_seed(
    seed: int,
    *,
    tables: DoubleQ,
    bandit: DoubleQ,
    effort: Effort,
    settings: Sequence[Setting] = SETTINGS,
    pools: Sequence[float] = POOLS,
) -> dict[str, dict[str, Any]]:
    """Play all settings of one seed."""
    found = {}
    for setting in settings:
        for pool in pools:
            federation = federation_of(setting, pool, seed)
            played = compare(federation, seed, tables, bandit, effort)
            bests = ideals(federation, setting, pool, seed)
            found[f"{setting.name}, pool {pool:g}"] = {
                "setting": setting.name, "pool": pool, "policies": played, "ideals": bests
            }  # fmt: skip
    return found


def trained(
    environment: ParticipationEnvironment,
    start: DoubleQ,
    discount: float,
    seed: int,
    tasks: int,
) -> dict[str, DoubleQ]:
    """Return agents that learned on training tasks, at the exploration they are shipped with."""
    parameters = replace(SHIPPED, discount=discount)
    agents = started_agents(environment.possible_agents, start, parameters, seed)
    policy = Learned(agents, learning=True)
    for task in range(tasks):
        play(environment, policy, 1_000_000 + 1000 * seed + task)
    return agents


def compare(
    federation: Federation, seed: int, tables: DoubleQ, bandit: DoubleQ, effort: Effort
) -> dict[str, dict[str, Any]]:
    """Play every policy on the same fresh tasks."""
    environment = ParticipationEnvironment(federation)
    agents = trained(environment, tables, SHIPPED.discount, seed, effort.training)
    bandits = trained(environment, bandit, 0.0, seed, effort.training)
    policies: dict[str, Policy] = {
        "learned": Learned(agents, learning=False),
        "shipped tables": Learned(
            started_agents(environment.possible_agents, tables, SHIPPED, seed), learning=False
        ),
        **{name: Fixed(action) for action, name in enumerate(FIXED)},
        "random": Random(np.random.default_rng([seed, 3])),
        "myopic": Myopic(),
        "threshold": Threshold(),
        "bandit": Learned(bandits, learning=False),
        # The last one: it changes the agents.
        "learning": Learned(agents, learning=True),
    }
    fresh = [2_000_000 + 1000 * seed + task for task in range(effort.evaluation)]
    found = {}
    for name, policy in policies.items():
        tasks = [play(environment, policy, one) for one in fresh]
        found[name] = averages(federation, [measure(federation, task) for task in tasks])
        if name == "learned":
            found[name]["regret"] = regret(environment, tasks[0], fresh[0])
    # Chosen afterwards, for each measure.
    found["best fixed"] = max((found[name] for name in FIXED), key=lambda one: one["welfare"][1])
    found["best fixed by utility"] = max((found[n] for n in FIXED), key=lambda one: one["utility"])
    return found


def averages(federation: Federation, tasks: list[Measured]) -> dict[str, Any]:
    """Return the means over tasks; welfare for each R."""
    fall = full_fall(federation)

    def mean(values: list[float]) -> float:
        known = [value for value in values if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")

    return {
        "welfare": [mean([t.welfare(fall, worth) for t in tasks]) for worth in WORTHS],
        "fall": mean([t.fall for t in tasks]) / fall,
        "cost": mean([t.cost for t in tasks]),
        "utility": mean([float(t.utility.mean()) for t in tasks]),
        "worst_utility": mean([float(t.utility.min()) for t in tasks]),
        "pool_used": mean([t.pool_used for t in tasks]),
        "jain": mean([t.jain for t in tasks]),
        "rounds_to_target": mean([t.rounds_to_target for t in tasks]),
        "cost_to_target": mean([t.cost_to_target for t in tasks]),
    }


def ideals(federation: Federation, setting: Setting, pool: float, seed: int) -> dict[str, Any]:
    """Return what could be reached at best, and what knowing and selfish organizations reach.

    Welfare in units of what everybody's full effort over the task costs, for each R.
    """
    whole = federation.full_wei * federation.terms.rounds
    values = [value_per_nat(federation, worth) for worth in WORTHS]
    found: dict[str, Any] = {
        "optimum": [central_optimum(federation, value).welfare / whole for value in values]
    }
    if not setting.plain:
        return found
    fall = full_fall(federation)
    selfish = equilibrium(federation, values[1], np.random.default_rng([seed, 4]))
    task = play(ParticipationEnvironment(federation), Planned(selfish.plan.rounds), seed)
    measured = measure(federation, task)
    found["equilibrium"] = [measured.welfare(fall, worth) for worth in WORTHS]
    found["equilibrium_cost"], found["equilibrium_exact"] = measured.cost, selfish.exact
    if pool <= SCARCE:
        plan = central_optimum(federation, values[1], no_loss=True)
        found["optimum_without_loss"] = plan.welfare / whole
    return found


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarize a setting over seeds."""
    at = WORTHS.index(HEADLINE)
    names = list(seeds[0]["policies"])
    optimum = np.array([one["ideals"]["optimum"] for one in seeds])
    welfare = {n: np.array([one["policies"][n]["welfare"] for one in seeds]) for n in names}
    utility = {n: np.array([one["policies"][n]["utility"] for one in seeds]) for n in names}
    policies = {}
    for name in names:
        each = [one["policies"][name] for one in seeds]
        keys = [key for key in each[0] if key != "welfare"]
        policies[name] = {
            "welfare": interval(welfare[name][:, at].tolist()),
            "welfare_over_optimum": interval((welfare[name] / optimum)[:, at].tolist()),
            "welfare_over_optimum_by_worth": {
                str(worth): float((welfare[name] / optimum)[:, k].mean())
                for k, worth in enumerate(WORTHS)
            },
            **{key: _mean([one[key] for one in each]) for key in keys},
        }
    against = {
        chosen: {
            base: {
                "welfare": _verdict((welfare[chosen] - welfare[base])[:, at].tolist()),
                "utility": _verdict(
                    (utility[chosen] - utility[_by_utility(base)]).tolist()
                ),
            }
            for base in BASELINES
        }
        for chosen in CHOSEN
    }  # fmt: skip
    return {
        "setting": seeds[0]["setting"],
        "pool": seeds[0]["pool"],
        "policies": policies,
        "against": against,
        "ideals": {
            key: np.mean([one["ideals"][key] for one in seeds], axis=0).tolist()
            for key in seeds[0]["ideals"]
        },
        "equilibrium_over_optimum": interval(
            [one["ideals"]["equilibrium"][at] / one["ideals"]["optimum"][at] for one in seeds]
        ) if "equilibrium" in seeds[0]["ideals"] else None,
    }  # fmt: skip


def _by_utility(base: str) -> str:
    """Return whom utilities are compared with: the best fixed action is chosen by each measure."""
    return "best fixed by utility" if base == "best fixed" else base


def _mean(values: list[float]) -> float | None:
    """Return the mean of what is known; none where nothing is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None


def _verdict(differences: list[float]) -> dict[str, Any]:
    found = interval(differences)
    better, worse = found["low"] > 0, found["high"] < 0
    return {**found, "verdict": "better" if better else "worse" if worse else "tie"}


def show(result: dict[str, Any], console: Console) -> None:
    """Print the headline table."""
    columns = ("setting", "learned / optimum", "always low", "best fixed", "vs best fixed: welfare",
               "utility", "equilibrium", "cost", "pool used", "regret")  # fmt: skip
    table = Table(*columns, title=f"welfare over the optimum, R = {HEADLINE}")
    for key, one in result["settings"].items():
        policies, against = one["policies"], one["against"]["learned"]["best fixed"]
        learned = policies["learned"]
        ratio, selfish = learned["welfare_over_optimum"], one["equilibrium_over_optimum"]
        table.add_row(
            key,
            f"{ratio['mean']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]",
            f"{policies['always low']['welfare_over_optimum']['mean']:.3f}",
            f"{policies['best fixed']['welfare_over_optimum']['mean']:.3f}",
            f"{against['welfare']['mean']:+.3f} {against['welfare']['verdict']}",
            f"{against['utility']['mean']:+.3f} {against['utility']['verdict']}",
            f"{selfish['mean']:.3f}" if selfish else "",
            f"{learned['cost']:.3f}",
            f"{learned['pool_used']:.3f}",
            f"{learned['regret']:.3f}",
        )
    console.print(table)
    console.print(f"{result['seconds']:.0f} s", result["recovery"])


if __name__ == "__main__":
    main()
