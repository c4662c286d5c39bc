"""What every aggregation rule answers: what to train, what to send, and what comes of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from llm.factors import A_SUFFIX, B_SUFFIX, Float32Array, LinearShape, LoraFactors
from strategies.aggregation.settings import AggregationSettings, check_combination
from strategies.aggregation.state import AggregationState, ExactFactors, StateArray
from strategies.aggregation.weights import capped_weights


@dataclass(frozen=True)
class TrainingPlan:
    """What an organization does in a round.

    Parameters
    ----------
    train_a, train_b : bool
        Which factors are trained.
    rank : int
        How many leading rows of ``A`` and columns of ``B`` are trained; the others stay active
        and frozen.
    on_top : bool
        False: the received adapter itself is trained, and the reply is trained minus received.
        True: the received adapter is frozen, a fresh pair of this rank
        (:meth:`AggregationRule.initial_pair`) is trained beside it, and the reply is that pair.
    """

    train_a: bool
    train_b: bool
    rank: int
    on_top: bool


@dataclass(frozen=True)
class Contribution:
    """One organization's reply in one round.

    Parameters
    ----------
    organization : str
    num_examples : int
        Records used in this round, never the rows the organization claims to hold.
    arrays : mapping of str to ndarray of float32
        The plan's update under PEFT names, of the shapes
        :meth:`AggregationRule.expected_shapes` gives.
    scale : float or None
        The LoRA scale s_k it was trained at, by the run's terms; None is the run's alpha / rank.
    """

    organization: str
    num_examples: int
    arrays: Mapping[str, Float32Array]
    scale: float | None = None


@dataclass(frozen=True)
class ApproximationError:
    """How far an aggregate is from the mean update, in relative Frobenius norm.

    Parameters
    ----------
    layers : dict of str to float
        By module: |aggregate - target| / |target|.
    total : float
        The same over all layers together.
    """

    layers: dict[str, float]
    total: float

    @classmethod
    def from_norms(cls, norms: Mapping[str, tuple[float, float]]) -> "ApproximationError":
        """Take ``(|aggregate - target|, |target|)`` of every module."""
        missed = sum(error**2 for error, _ in norms.values()) ** 0.5
        target = sum(norm**2 for _, norm in norms.values()) ** 0.5
        return cls({m: _ratio(*norms[m]) for m in sorted(norms)}, _ratio(missed, target))


def _ratio(error: float, norm: float) -> float:
    if error == 0.0:
        return 0.0
    return error / norm if norm else float("inf")


@dataclass(frozen=True)
class Aggregate:
    """What came of a round.

    Parameters
    ----------
    state : AggregationState
        The new state.
    weights : dict of str to float
        p_k: the capped shares of the records used, by organization.
    effective_weights : dict of str to float or None
        What the robust statistic made of them: the coefficient each update really has. Equal to
        ``weights`` without one; None where the result is no weighted sum (``trimmed-mean``).
    error : ApproximationError or None
        Distance to the mean update, by the rules that have one.
    diagnostics : dict of str to float
        What the robust statistic did, for the log.
    """

    state: AggregationState
    weights: dict[str, float]
    effective_weights: dict[str, float] | None
    error: ApproximationError | None = None
    diagnostics: dict[str, float] = field(default_factory=dict)


class AggregationRule(ABC):
    """How the updates of a round become the next adapter.

    The target of every rule is the mean update, by layer: the sum over organizations k of
    ``p_k * s_k * dB_k @ A``, in general ``p_k * s_k * B_k @ A_k``. Rules are pure: they change
    none of their arguments and give the same result for the same ones, whatever the order of the
    contributions.

    Parameters
    ----------
    settings : AggregationSettings
    shapes : mapping of str to LinearShape
        The adapted layers by module name, PEFT's prefix included.

    Attributes
    ----------
    name : str
        The rule's name in the settings.
    tolerance : float
        Largest :func:`~strategies.aggregation.geometry.adapter_distance` between two machines
        that aggregate the same contributions; 0.0 means the same bits.
    """

    name: ClassVar[str]
    tolerance: ClassVar[float] = 0.0

    def __init__(self, settings: AggregationSettings, shapes: Mapping[str, LinearShape]) -> None:
        check_combination(self.name, settings.robust)
        if not shapes:
            raise ValueError("no adapted layer: expected at least one module and its shape")
        self.settings = settings
        self.shapes = {module: shapes[module] for module in sorted(shapes)}

    @property
    @abstractmethod
    def separable(self) -> bool:
        """Whether each organization's part in the adapter can be told from the others'."""

    @property
    def minimum_contributions(self) -> int:
        """Fewest contributions a round needs."""
        return 1

    @abstractmethod
    def plan(self, round: int, rank: int) -> TrainingPlan:
        """Say what an organization of LoRA rank ``rank`` does in ``round`` (from 1)."""

    @abstractmethod
    def initial_state(self) -> AggregationState:
        """State before the first round: an adapter that changes nothing."""

    @abstractmethod
    def layer(self, state: AggregationState, module: str) -> ExactFactors:
        """One layer of the global adapter in float64: an update of ``settings.scale * b @ a``."""

    @abstractmethod
    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        """Combine the contributions of a round.

        Raises
        ------
        ValueError
            If a contribution is not what :meth:`expected_shapes` says or not finite, one
            organization is there twice, or there are fewer than ``minimum_contributions``.
        """

    @abstractmethod
    def update_norm(self, state: AggregationState, round: int, contribution: Contribution) -> float:
        """Size of a contribution, for the bound it must keep.

        It is at least ``|s * dW|``, the Frobenius norm of the change to all layers, and at least
        ``s`` times the norm of the change to the trained factors: a factor can grow without
        bound where its partner is zero, change nothing now and everything a round later.
        """

    def adapter(self, state: AggregationState) -> dict[str, LoraFactors]:
        """Global adapter as it is served, sent and saved.

        Every module has the same rank r, which may differ from the run's; PEFT reproduces it
        with ``r = r`` and ``lora_alpha = settings.scale * r``.
        """
        return {module: self.layer(state, module).rounded(module) for module in self.shapes}

    def expected_shapes(self, round: int, rank: int) -> dict[str, tuple[int, int]]:
        """Names and shapes of the arrays in an honest reply, sorted by name."""
        plan = self.plan(round, rank)
        shapes: dict[str, tuple[int, int]] = {}
        for module, shape in self.shapes.items():
            if plan.train_a:
                shapes[module + A_SUFFIX] = (rank, shape.in_features)
            if plan.train_b:
                shapes[module + B_SUFFIX] = (shape.out_features, rank)
        return shapes

    def initial_pair(self, round: int, organization: str, rank: int) -> dict[str, LoraFactors]:
        """Fresh pair that an on-top plan starts from, by module.

        Raises
        ------
        ValueError
            If the rule trains the received adapter itself.
        """
        raise ValueError(f"{self.name} trains the received adapter itself and needs no fresh pair")

    def restore(self, arrays: Mapping[str, StateArray]) -> AggregationState:
        """Take a state back from a file.

        Raises
        ------
        ValueError
            If names, dtypes or shapes are not those of this rule, or a value is not finite.
        """
        state = AggregationState.from_arrays(arrays)
        self._check_state(state)
        return state

    @abstractmethod
    def _check_state(self, state: AggregationState) -> None: ...

    def contributed_rank(self, round: int, contribution: Contribution) -> int:
        """LoRA rank of a contribution, read from its first array.

        Raises
        ------
        ValueError
            If that array is missing, no matrix, or of a rank outside 1 to the run's.
        """
        name, axis = self._rank_axis(round)
        array = contribution.arrays.get(name)
        if array is None or array.ndim != 2:
            given = "missing" if array is None else f"of shape {array.shape}"
            raise ValueError(
                f"{contribution.organization}, round {round}: {name!r} is {given}: "
                "expected a matrix"
            )
        rank = int(array.shape[axis])
        self._check_rank(rank, f"{contribution.organization}, round {round}")
        return rank

    def _rank_axis(self, round: int) -> tuple[str, int]:
        module = next(iter(self.shapes))
        if self.plan(round, self.settings.rank).train_b:
            return module + B_SUFFIX, 1
        return module + A_SUFFIX, 0

    def _check_rank(self, rank: int, whose: str) -> None:
        if not 1 <= rank <= self.settings.rank:
            raise ValueError(
                f"{whose}: rank {rank} is out of range: expected 1 to the run's rank, "
                f"{self.settings.rank}"
            )

    def _admit(self, round: int, contributions: Sequence[Contribution]) -> list[Contribution]:
        """Check the contributions and put them in canonical order."""
        if len(contributions) < self.minimum_contributions:
            statistic = "" if self.settings.robust == "none" else f" with {self.settings.robust}"
            raise ValueError(
                f"round {round}: {len(contributions)} contributions are too few for "
                f"{self.name}{statistic}: expected at least {self.minimum_contributions}"
            )
        ordered = sorted(contributions, key=lambda contribution: contribution.organization)
        for earlier, later in pairwise(ordered):
            if earlier.organization == later.organization:
                raise ValueError(
                    f"{later.organization}, round {round}: contributed twice: expected once"
                )
        for contribution in ordered:
            self.check_contribution(round, contribution)
        return ordered

    def check_contribution(self, round: int, contribution: Contribution) -> None:
        """Refuse a contribution whose names, dtypes, shapes, values or scale are not in order.

        Raises
        ------
        ValueError
            One line that names organization, round, array, what was given and what was expected.
        """
        whose = f"{contribution.organization}, round {round}"
        expected = self.expected_shapes(round, self.contributed_rank(round, contribution))
        check_arrays(whose, contribution.arrays, expected, np.dtype(np.float32))
        for name, array in contribution.arrays.items():
            finite = int(np.isfinite(array).sum())
            if finite < array.size:
                raise ValueError(
                    f"{whose}: {array.size - finite:,} of {array.size:,} values of {name!r} "
                    "are not finite"
                )
        if contribution.scale is not None and not 0 < contribution.scale < float("inf"):
            raise ValueError(f"{whose}: scale {contribution.scale}: expected finite and above 0")

    def _weights(self, contributions: Sequence[Contribution]) -> dict[str, float]:
        return capped_weights(
            {c.organization: c.num_examples for c in contributions}, self.settings.weight_cap
        )

    def _scale_ratio(self, contribution: Contribution) -> float:
        """Give s_k / s_g: what an update trained at another scale counts for at the run's."""
        if contribution.scale is None:
            return 1.0
        return contribution.scale / self.settings.scale


def check_arrays(
    whose: str,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    expected: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
) -> None:
    """Hold arrays against the names and shapes they should have.

    Raises
    ------
    ValueError
        One line that begins with ``whose``, and names the first array that differs.
    """
    if arrays.keys() != expected.keys():
        odd = sorted(arrays.keys() ^ expected.keys())
        raise ValueError(
            f"{whose}: {odd[0][:200]!r} is {'missing' if odd[0] in expected else 'not expected'} "
            f"({len(odd)} of {len(expected)} names differ)"
        )
    for name, shape in expected.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{whose}: {name!r} is {array.dtype} of shape {array.shape}: "
                f"expected {dtype} of shape {shape}"
            )
