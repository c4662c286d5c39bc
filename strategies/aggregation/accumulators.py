"""``accumulators``: one low-rank accumulator an organization, re-compressed every round."""

from collections.abc import Iterator, Sequence

import numpy as np

from llm.factors import A_SUFFIX, B_SUFFIX
from strategies.aggregation.geometry import stacked_norm
from strategies.aggregation.on_top import OnTopRule, exact_pair
from strategies.aggregation.reproducible import Float64Array
from strategies.aggregation.rule import Aggregate, ApproximationError, Contribution
from strategies.aggregation.state import AggregationState, ExactFactors, StateArray

Pair = tuple[Float64Array, Float64Array]


class Accumulators(OnTopRule):
    """``acc_k <- recompress([acc_k, p_k (s_k / s_g) B_k A_k])``; the adapter stacks them.

    Stacking as in FLoRA (Wang et al., arXiv 2409.05976) keeps the mean update exact; the
    re-compression keeps each organization's share at a fixed rank, and the round's error says
    what it cost. An organization's accumulator holds nothing of another's, so that the adapter's
    rank is the accumulators' times the number of organizations that ever took part.

    QR and SVD come from LAPACK, which does not give the same bits everywhere. ``tolerance`` holds
    where the last kept singular value is larger than the first one left out; where the two are
    equal, either may go, at the same error.
    """

    name = "accumulators"
    tolerance = 1e-6

    @property
    def kept_rank(self) -> int:
        """Rank of each accumulator."""
        return self.settings.accumulator_rank or self.settings.rank

    def initial_state(self) -> AggregationState:
        """No organization has an accumulator yet."""
        return AggregationState()

    def organizations(self, state: AggregationState) -> list[str]:
        """Organizations that have an accumulator, sorted."""
        first = next(iter(self.shapes)) + A_SUFFIX + "/"
        return sorted(n.removeprefix(first) for n in state.arrays if n.startswith(first))

    def layer(self, state: AggregationState, module: str) -> ExactFactors:
        """One layer's stack of accumulators; of rank 1 and zero while there is none."""
        shape = self.shapes[module]
        stack = [
            self._accumulator(state, module, organization)
            for organization in self.organizations(state)
        ] or [(np.zeros((shape.out_features, 1)), np.zeros((1, shape.in_features)))]
        left, right = zip(*stack, strict=True)
        return ExactFactors(a=np.vstack(right), b=np.hstack(left))

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        """Add each pair to its organization's accumulator, and measure what that discards."""
        ordered = self._admit(round, contributions)
        weights = self._weights(ordered)
        arrays, norms = dict(state.arrays), {}
        known = set(self.organizations(state))
        for module in self.shapes:
            updates, discarded = [], []
            for contribution in ordered:
                organization = contribution.organization
                b, a = exact_pair(contribution, module)
                b *= weights[organization] * self._scale_ratio(contribution)
                updates.append((b, a))
                stack = [(b, a)]
                if organization in known:
                    stack.insert(0, self._accumulator(state, module, organization))
                kept, lost = recompress(stack, self.kept_rank)
                discarded.append(lost)
                name_a, name_b = _names(module, organization)
                arrays[name_b], arrays[name_a] = kept
            norms[module] = (stacked_norm(discarded), stacked_norm(updates))
        error = ApproximationError.from_norms(norms)
        return Aggregate(AggregationState(arrays), weights, dict(weights), error)

    def _accumulator(self, state: AggregationState, module: str, organization: str) -> Pair:
        name_a, name_b = _names(module, organization)
        a, b = state.arrays[name_a], state.arrays[name_b]
        return b.astype(np.float64, copy=False), a.astype(np.float64, copy=False)

    def _check_state(self, state: AggregationState) -> None:
        expected = dict(self._expected_arrays(self.organizations(state)))
        if state.arrays.keys() != expected.keys():
            odd = min(state.arrays.keys() ^ expected.keys())
            raise ValueError(
                f"accumulators state: {odd[:200]!r} is "
                f"{'missing' if odd in expected else 'not expected'}"
            )
        for name, shape in expected.items():
            array: StateArray = state.arrays[name]
            if array.dtype != np.float64 or array.shape != shape:
                raise ValueError(
                    f"accumulators state: {name[:200]!r} is {array.dtype} of shape {array.shape}: "
                    f"expected float64 of shape {shape}"
                )

    def _expected_arrays(
        self, organizations: Sequence[str]
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        for module, shape in self.shapes.items():
            for organization in organizations:
                name_a, name_b = _names(module, organization)
                yield name_a, (self.kept_rank, shape.in_features)
                yield name_b, (shape.out_features, self.kept_rank)


def recompress(stack: Sequence[Pair], rank: int) -> tuple[Pair, Pair]:
    """Best approximation, of a given rank, to the sum of low-rank products.

    QR of the stacked factors, ``b = Q R`` and ``a.T = P S``, leaves the singular value
    decomposition of the small core ``R S.T``; by Eckart and Young (1936) its leading part is the
    best approximation in the Frobenius norm. The dense product is never formed.

    Parameters
    ----------
    stack : sequence of pairs (b, a)
        Of shapes (out_features, r) and (r, in_features), any r.
    rank : int
        Rank to keep; filled up with zeros where the sum has less.

    Returns
    -------
    kept, discarded : pairs (b, a)
        Their products add up to the sum. The singular values of ``kept`` are split evenly between
        its factors.
    """
    left, right = zip(*stack, strict=True)
    q, r = np.linalg.qr(np.hstack(left))
    p, s = np.linalg.qr(np.vstack(right).T)
    u, values, vt = np.linalg.svd(r @ s.T, full_matrices=False)
    root = np.sqrt(values)
    b, a = q @ (u * root), (root[:, None] * vt) @ p.T
    kept_b, kept_a = np.zeros((b.shape[0], rank)), np.zeros((rank, a.shape[1]))
    count = min(rank, len(values))
    kept_b[:, :count], kept_a[:count] = b[:, :count], a[:count]
    return (kept_b, kept_a), (b[:, count:], a[count:])


def _names(module: str, organization: str) -> tuple[str, str]:
    return f"{module}{A_SUFFIX}/{organization}", f"{module}{B_SUFFIX}/{organization}"
