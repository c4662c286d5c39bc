"""``ffa``: A is frozen and shared, B alone is trained, and its mean is the mean update."""

from strategies.aggregation.reproducible import frobenius_norm
from strategies.aggregation.rule import Contribution
from strategies.aggregation.single_factor import SingleFactorRule
from strategies.aggregation.state import AggregationState


class Ffa(SingleFactorRule):
    """FFA-LoRA: ``B <- B + sum p_k (s_k / s_g) pad(dB_k)``.

    Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", arXiv 2403.12313; here
    with orthonormal rows in ``A``, organizations of several ranks and a float64 sum. ``B`` is a
    sum of terms by round and organization
    (:func:`~strategies.aggregation.withdrawal.without_organization`).
    """

    name = "ffa"
    moves_a = False

    @property
    def separable(self) -> bool:
        """Whether the robust statistic leaves the sum one of terms."""
        return self.statistic.separable

    def trains_b(self, round: int) -> bool:
        """Every round."""
        return True

    def update_norm(self, state: AggregationState, round: int, contribution: Contribution) -> float:
        """``s * |dB|``, which is ``|s * dB A|`` since the rows of ``A`` are orthonormal."""
        return self._scale(contribution) * frobenius_norm(contribution.arrays)
