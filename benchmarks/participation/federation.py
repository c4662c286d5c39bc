"""Who takes part in a task of the environment, and on which terms."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np

from benchmarks.participation.response import Calibration
from client_app.agent.action_space import ActionSpace
from client_app.agent.replay import FAILURE_PENALTY
from strategies.contributions import ScoreLimits
from strategies.effort import Effort
from strategies.rewards import WEI_PER_GWEI

EFFORT: Final = Effort("steps", (50, 75, 100))
SPACE: Final = ActionSpace(EFFORT)

#: Records of an organization whose usefulness is 1 that make one unit of effort: the demo's draw.
UNIT_RECORDS: Final = 128

#: The default terms' tolerance and bound, nats.
LIMITS: Final = ScoreLimits(0.001, 1.0)


@dataclass(frozen=True)
class Organization:
    """One that decides.

    Parameters
    ----------
    name : str
        Its name.
    usefulness : float
        Effort of :data:`UNIT_RECORDS` of its records; the calibration's organizations have 1 on
        average.
    records : int
        Records that full effort draws in a round.
    tokens : int
        Tokens a record.
    price : int
        Wei a token.
    budget : int
        Tokens an epoch; 0 for any number.
    dropout : float
        Probability that an update is lost, 0 to 1.
    group : str
        Near-duplicates of one another have the same; empty: it has none.
    share_power : float
        Records count by this power of their share of :data:`UNIT_RECORDS`: above 1, few records in
        a round are worth less each. See :class:`.response.Calibration`.
    """

    name: str
    usefulness: float
    records: int
    tokens: int
    price: int
    budget: int = 0
    dropout: float = 0.0
    group: str = ""
    share_power: float = 1.0

    @cached_property
    def costs(self) -> tuple[int, ...]:
        """Tokens that each action costs, (actions,)."""
        drawn = (EFFORT.records(percent, self.records) for percent in EFFORT.percents)
        return (0, *(records * self.tokens for records in drawn))

    @cached_property
    def efforts(self) -> tuple[float, ...]:
        """Effort that each action is, (actions,)."""
        shares = (EFFORT.records(p, self.records) / UNIT_RECORDS for p in EFFORT.percents)
        return (0.0, *(self.usefulness * share**self.share_power for share in shares))

    @property
    def full_wei(self) -> int:
        """Wei that full effort costs in a round."""
        return self.costs[-1] * self.price


@dataclass(frozen=True)
class FreeRider:
    """One that sends something every round, at no cost, and decides nothing.

    Parameters
    ----------
    name : str
        Its name.
    sends : {"zeros", "noise", "copy"}
        What it sends.
    of : str
        Whom it copies.
    """

    name: str
    sends: Literal["zeros", "noise", "copy"]
    of: str = ""


@dataclass(frozen=True)
class Shock:
    """What happens to an organization before a round.

    Parameters
    ----------
    round : int
        Before which; from 2.
    organization : str
        To whom.
    price_factor : int
        Its price is multiplied by it; 0: it leaves for good, and its part is unlearned.
    """

    round: int
    organization: str
    price_factor: int = 0


@dataclass(frozen=True)
class Terms:
    """What a task agreed on.

    Parameters
    ----------
    pool : int
        Wei that a round pays at most.
    rounds, epoch : int
        Rounds of the task, and of a budget's epoch.
    constant : int
        Micro-nats in the denominator of a reward.
    limits : ScoreLimits
        Tolerance and bound of a score, nats.
    minimum : int
        Fewer updates leave a round's adapter unchanged, and score nothing.
    penalty : float
        For a lost update, in units of the cost of full effort; felt by learners alone.
    start : float
        Progress before the task: 0 for the base model.
    """

    pool: int
    rounds: int = 12
    epoch: int = 4
    constant: int = 10_000
    limits: ScoreLimits = LIMITS
    minimum: int = 2
    penalty: float = FAILURE_PENALTY
    start: float = 0.0


@dataclass(frozen=True)
class Federation:
    """A task as the environment plays it.

    Parameters
    ----------
    organizations : tuple of Organization
        Those that decide.
    terms : Terms
        On which terms.
    calibration : Calibration
        Response and noise.
    free_riders : tuple of FreeRider
        Those that do not.
    shocks : tuple of Shock
        What happens on the way.
    """

    organizations: tuple[Organization, ...]
    terms: Terms
    calibration: Calibration
    free_riders: tuple[FreeRider, ...] = ()
    shocks: tuple[Shock, ...] = ()

    @cached_property
    def full_wei(self) -> int:
        """Wei that everybody's full effort costs in a round."""
        return sum(organization.full_wei for organization in self.organizations)


def draw_federation(
    random: np.random.Generator,
    size: int,
    pool_share: float,
    calibration: Calibration,
    *,
    plain: bool = False,
) -> Federation:
    """Draw unlike organizations.

    Usefulness is log-normal with the calibrated spread, a record has the calibrated number of
    tokens, full effort draws 64 to 192 records, and prices lie within a factor of two about 60 gwei
    a token, at which a demo's round costs about what its pool pays.

    Parameters
    ----------
    random : numpy.random.Generator
        Where it is drawn from.
    size : int
        How many organizations.
    pool_share : float
        Pool, as a share of what everybody's full effort costs in a round.
    calibration : Calibration
        Response, noise and spreads.
    plain : bool
        Without budgets and lost updates, for which an exact optimum is computed. Otherwise three in
        five have a budget of two to four rounds of full effort in an epoch of four, and up to one
        update in ten is lost.
    """
    fewest, most = calibration.tokens
    organizations = []
    for index in range(size):
        records = int(random.choice((64, 96, 128, 192)))
        tokens = int(random.integers(fewest, most + 1))
        usefulness = float(random.lognormal(0.0, calibration.usefulness_spread))
        price = round(60 * 2 ** random.uniform(-1.0, 1.0)) * WEI_PER_GWEI
        budget = int(random.choice((0, 0, 2, 3, 4))) * records * tokens
        dropout = float(random.uniform(0.0, 0.1))
        if plain:
            budget, dropout = 0, 0.0
        organizations.append(
            Organization(
                f"organization-{index}",
                usefulness,
                records,
                tokens,
                price,
                budget,
                dropout,
                share_power=calibration.share_power,
            )
        )
    full = sum(organization.full_wei for organization in organizations)
    return Federation(tuple(organizations), Terms(int(pool_share * full)), calibration)


def continued(federation: Federation, rounds: float) -> Federation:
    """Return the task that begins where everybody's full effort in some rounds has led."""
    whole = sum(organization.efforts[-1] for organization in federation.organizations)
    start = rounds * federation.calibration.response.progress(whole)
    return replace(federation, terms=replace(federation.terms, start=start))
