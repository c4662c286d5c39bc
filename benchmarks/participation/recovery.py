"""How long it takes until welfare is back after a shock.

Two shocks to five organizations at a pool of half the cost, in tasks that continue an adapter: from
the base model, one round by whoever is left makes up for any loss. *Departure*: the largest
contributor leaves for good after half of a task, and its part is unlearned; counted are the rounds
until the fall of the loss is back within 5 % of what it was. *Price*: between tasks the price of
the organization that spends most is tripled; agents go on learning, and counted are the rounds
until the mean welfare of five tasks is within 5 % of the mean of the last ten. The price's welfare
is judged at R = 2.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np

from benchmarks.participation.environment import ParticipationEnvironment
from benchmarks.participation.federation import Federation, Shock, continued, draw_federation
from benchmarks.participation.learn_tables import SHIPPED
from benchmarks.participation.measures import full_fall, interval, measure
from benchmarks.participation.policies import (
    Fixed,
    Learned,
    Policy,
    Threshold,
    play,
    started_agents,
)
from benchmarks.participation.response import Calibration
from client_app.agent.double_q import DoubleQ

POOL: Final = 0.5
SIZE: Final = 5
WORTH: Final = 2.0
#: How near is back.
BACK: Final = 0.05


def recovery(tables: DoubleQ, seeds: int, *, quick: bool) -> dict[str, Any]:
    """Measure both shocks over seeds."""
    tasks = 12 if quick else 40
    departures: dict[str, list[float]] = {}
    prices = []
    for seed in range(seeds):
        federation = continued(
            draw_federation(
                np.random.default_rng([seed, 5]), SIZE, POOL, Calibration.load(), plain=True
            ),
            1,
        )
        for name, rounds in departure(federation, tables, seed).items():
            departures.setdefault(name, []).append(rounds)
        prices.append(price_jump(federation, tables, seed, tasks))
    left = federation.terms.rounds - _first_after(federation) + 1
    return {
        "departure": {
            name: {
                "recovered": float(np.mean([r <= left for r in rounds])),
                "rounds": interval(rounds),
            }
            for name, rounds in departures.items()
        },
        "departure_rounds_left": left,
        "price": {"rounds": interval(prices), "rounds_played": tasks * federation.terms.rounds},
    }


def departure(federation: Federation, tables: DoubleQ, seed: int) -> dict[str, float]:
    """Return the rounds until the loss is back, by policy; one more than are left if never."""
    leaver = max(federation.organizations, key=lambda o: o.efforts[-1]).name
    after = _first_after(federation)
    shocked = replace(federation, shocks=(Shock(after, leaver),))
    environment = ParticipationEnvironment(shocked)
    names = environment.possible_agents
    policies: dict[str, Policy] = {
        "learned": Learned(started_agents(names, tables, SHIPPED, seed), learning=False),
        "threshold": Threshold(),
        "always low": Fixed(1),
        "always high": Fixed(3),
    }
    found = {}
    terms, response = federation.terms, federation.calibration.response
    for name, policy in policies.items():
        played = play(environment, policy, seed)
        begun = float(response.loss(terms.start))
        wanted = (1.0 - BACK) * (begun - played[after - 2].loss)
        back = [begun - r.loss >= wanted for r in played[after - 1 :]]
        found[name] = float(back.index(True) + 1 if any(back) else len(back) + 1)
    return found


def price_jump(federation: Federation, tables: DoubleQ, seed: int, tasks: int) -> float:
    """Return the rounds that learning agents take after a price has tripled."""
    names = [o.name for o in federation.organizations]
    policy = Learned(started_agents(names, tables, SHIPPED, seed), learning=True)
    environment = ParticipationEnvironment(federation)
    for task in range(tasks):
        play(environment, policy, 3_000_000 + 1000 * seed + task)
    dearest = max(federation.organizations, key=lambda o: o.full_wei)
    dearer = replace(dearest, price=3 * dearest.price)
    shocked = replace(
        federation,
        organizations=tuple(dearer if o is dearest else o for o in federation.organizations),
    )
    environment, fall = ParticipationEnvironment(shocked), full_fall(shocked)
    welfare = np.array(
        [
            measure(shocked, play(environment, policy, 4_000_000 + 1000 * seed + task)).welfare(
                fall, WORTH
            )
            for task in range(tasks)
        ]
    )
    settled = welfare[-10:].mean()
    moving = np.convolve(welfare, np.ones(5) / 5, mode="valid")
    near = np.abs(moving - settled) <= BACK * abs(settled)
    first = int(near.argmax()) if near.any() else tasks
    return float(first * federation.terms.rounds)


def _first_after(federation: Federation) -> int:
    return federation.terms.rounds // 2 + 1
