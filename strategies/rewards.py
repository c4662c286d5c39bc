"""Rewards: how a round's scores become wei, and what each organization has earned so far.

Integers only, divided with the remainder dropped: every machine computes the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from blockchain.merkle import check_hash, organization_id
from blockchain.reward_tree import RewardLeaf, RewardTree, reward_leaves
from strategies.scores import ScoreTable, micro_nats
from strategies.settings import RunSettings

REWARDS_VERSION: Final = 1
WEI_PER_GWEI: Final = 10**9

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,77}")


def round_rewards(scores: Mapping[str, int], *, pool: int, constant: int) -> dict[str, int]:
    """Split a round's pool: ``pool * s_k // (sum of all s_j + constant)``.

    The constant leaves a part of the pool unspent, most of it in a round in which nobody gained
    much: with a total score of ``constant``, half. Without it a round of noise alone would pay
    out everything.

    Parameters
    ----------
    scores : mapping of str to int
        Micro-nats by organization, at least 0.
    pool : int
        Wei that the round can pay at most, at least 0.
    constant : int
        Micro-nats, at least 1.

    Returns
    -------
    dict of str to int
        Wei by organization, sorted by name; their sum is at most ``pool``.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if pool < 0 or constant < 1:
        raise ValueError(
            f"pool {pool} wei and constant {constant} micro-nats: expected at least 0 and 1"
        )
    for organization, score in scores.items():
        if score < 0:
            raise ValueError(f"{organization}: score {score} micro-nats, expected at least 0")
    denominator = sum(scores.values()) + constant
    return {name: pool * scores[name] // denominator for name in sorted(scores)}


@dataclass(frozen=True)
class RewardTerms:
    """What the parties agreed to pay.

    Parameters
    ----------
    pool : int
        Wei a round, at most.
    constant : int
        Micro-nats in the denominator, see :func:`round_rewards`.
    """

    pool: int
    constant: int

    @classmethod
    def of(cls, settings: RunSettings) -> Self:
        """Read them from a run's settings."""
        return cls(
            pool=settings.reward_per_round * WEI_PER_GWEI,
            constant=micro_nats(settings.reward_constant),
        )


@dataclass(frozen=True)
class RewardTable:
    """What each organization has earned in a task, up to and including a round.

    Parameters
    ----------
    task : bytes
        Id of the task, 32 bytes.
    round : int
        The last round that was counted; 0 before the first.
    amounts : mapping of str to int
        Cumulative wei by organization.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    task: bytes
    round: int
    amounts: Mapping[str, int]

    def __post_init__(self) -> None:
        check_hash(self.task, "rewards: task")
        if self.round < 0:
            raise ValueError(f"rewards: round {self.round}, expected at least 0")
        for name, amount in self.amounts.items():
            if not 0 <= amount < 2**256:
                raise ValueError(f"rewards: {name} has {amount} wei, expected 0 to 2**256 - 1")
        object.__setattr__(self, "amounts", dict(sorted(self.amounts.items())))

    @classmethod
    def empty(cls, task: bytes) -> Self:
        """Return the table before the first round."""
        return cls(task, 0, {})

    def after(self, scores: ScoreTable, terms: RewardTerms) -> "RewardTable":
        """Add a round's rewards.

        Raises
        ------
        ValueError
            If the scores are of another task, or of a round that is counted already.
        """
        if scores.task != self.task:
            raise ValueError(
                f"scores of task 0x{scores.task.hex()} for rewards of task 0x{self.task.hex()}"
            )
        if scores.round <= self.round:
            raise ValueError(
                f"scores of round {scores.round}: rewards are counted up to {self.round} already"
            )
        earned = round_rewards(scores.scores, pool=terms.pool, constant=terms.constant)
        names = self.amounts.keys() | earned.keys()
        amounts = {name: self.amounts.get(name, 0) + earned.get(name, 0) for name in names}
        return RewardTable(self.task, scores.round, amounts)

    @property
    def total(self) -> int:
        """Wei of all organizations together."""
        return sum(self.amounts.values())

    def leaves(self) -> list[RewardLeaf]:
        """Return the leaves of all who earned something, in the order of their ids."""
        return reward_leaves(self.task, self.amounts)

    def root(self) -> bytes:
        """Return the Merkle root, 32 bytes: zero exactly where the total is."""
        return self._tree.root

    @cached_property
    def _tree(self) -> RewardTree:
        return RewardTree(self.leaves())

    def leaf(self, organization: str) -> RewardLeaf:
        """Return an organization's leaf.

        Raises
        ------
        KeyError
            If it earned nothing.
        """
        amount = self.amounts.get(organization, 0)
        if amount == 0:
            raise KeyError(f"{organization!r} has earned nothing: there is no leaf")
        return RewardLeaf(self.task, organization_id(organization), amount)

    def proof(self, organization: str) -> list[bytes]:
        """Return the proof of an organization's leaf; as for :meth:`leaf`, it must have one."""
        return self._tree.proof(self.leaf(organization).organization)

    def to_json(self) -> dict[str, Any]:
        """Lay the table out, canonically encodable: wei outgrow JSON's integers and are text."""
        return {
            "version": REWARDS_VERSION,
            "task": self.task.hex(),
            "round": self.round,
            "amounts": {name: str(amount) for name, amount in self.amounts.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "RewardTable":
        """Read a table back, and nothing that :meth:`to_json` would have written otherwise.

        Raises
        ------
        ValueError
            One line that says what is wrong.
        """
        try:
            amounts = {
                name: _wei(text) for name, text in document["amounts"].items() if _named(name)
            }
            table = cls(bytes.fromhex(document["task"]), document["round"], amounts)
            numbers = {type(document[field]) for field in ("version", "round")}
            faithful = numbers == {int} and table.to_json() == dict(document)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the reward table is malformed: {error}") from error
        if not faithful:
            raise ValueError("the reward table is not in its one form")
        return table


def _wei(text: object) -> int:
    if not isinstance(text, str) or _DECIMAL.fullmatch(text) is None:
        raise ValueError(f"the reward table holds {text!r:.100}, expected wei as decimal text")
    return int(text)


def _named(name: object) -> bool:
    if not isinstance(name, str) or not name:
        raise ValueError(f"the reward table holds {name!r:.100}, expected an organization's name")
    return True
