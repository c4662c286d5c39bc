"""``ffa`` in isolation: each organization has an adapter of its own, their sum is served."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from llm.factors import B_SUFFIX, LinearShape
from strategies.aggregation.ffa import Ffa
from strategies.aggregation.reproducible import Float64Array
from strategies.aggregation.rule import Aggregate, Contribution
from strategies.aggregation.settings import AggregationSettings
from strategies.aggregation.state import AggregationState, ExactFactors, StateArray
from strategies.aggregation.weights import capped_weights

_EXAMPLES = "examples/"


class IsolatedFfa(Ffa):
    """``B_k <- B_k + pad(dB_k)`` for each organization k; the adapter is ``sum p_k B_k``.

    Organization k trains from ``B_k``, which holds nothing of another's data, and ``p_k`` is its
    share of the records used in all rounds, under the cap. So whoever leaves is taken out by
    leaving its ``B_k`` away: the rest is, bit for bit, what would be there had it never taken part.
    This is the sharding of Bourtoule et al., "Machine Unlearning", arXiv 1912.03817, with a shard
    an organization, and factors summed where they vote.

    Parameters
    ----------
    settings : AggregationSettings
        Without a robust statistic: there is nothing to hold an adapter of one's own against.
    shapes : mapping of str to LinearShape
        The adapted layers by module name.
    members : collection of str
        Organizations whose adapters count. A state that holds others' is restored without them.
    """

    def __init__(
        self,
        settings: AggregationSettings,
        shapes: Mapping[str, LinearShape],
        members: Collection[str],
    ) -> None:
        if settings.robust != "none":
            raise ValueError(f"isolation with robust statistic {settings.robust!r}: expected none")
        super().__init__(settings, shapes)
        self._members = frozenset(members)

    def initial_state(self) -> AggregationState:
        """No organization has an adapter yet."""
        return AggregationState()

    def organizations(self, state: AggregationState) -> list[str]:
        """Organizations that have an adapter, sorted."""
        return sorted(n.removeprefix(_EXAMPLES) for n in state.arrays if n.startswith(_EXAMPLES))

    def layer(self, state: AggregationState, module: str) -> ExactFactors:
        """One layer of the adapter that is served; zero while nobody has one."""
        total = np.zeros((self.shapes[module].out_features, self.settings.rank))
        for organization, weight in self._shares(state).items():
            total += weight * self._own(state, module, organization)
        return ExactFactors(a=self.initial_a[module].astype(np.float64), b=total)

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        """Add each update to its organization's own adapter.

        The weights are those in the adapter that is served then, of those who contributed.
        """
        arrays = dict(state.arrays)
        for contribution in self._admit(round, contributions):
            organization = contribution.organization
            count = arrays.get(_EXAMPLES + organization, np.zeros((1, 1)))
            arrays[_EXAMPLES + organization] = count + float(contribution.num_examples)
            for module in self.shapes:
                own = self._own(state, module, organization).copy()
                step = contribution.arrays[module + B_SUFFIX].astype(np.float64)
                own[:, : step.shape[1]] += self._scale_ratio(contribution) * step
                arrays[_name(module, organization)] = own
        after = AggregationState(arrays)
        shares = self._shares(after)
        weights = {c.organization: shares[c.organization] for c in contributions}
        weights = dict(sorted(weights.items()))
        return Aggregate(state=after, weights=weights, effective_weights=dict(weights))

    def restore(self, arrays: Mapping[str, StateArray]) -> AggregationState:
        """Take a state back from a file, without the adapters of those who take part no more."""
        kept = {
            name: array
            for name, array in arrays.items()
            if name.rpartition("/")[2] in self._members
        }
        return super().restore(kept)

    def _shares(self, state: AggregationState) -> dict[str, float]:
        counts = {
            name: int(state.arrays[_EXAMPLES + name].item()) for name in self.organizations(state)
        }
        return capped_weights(counts, self.settings.weight_cap) if counts else {}

    def _own(self, state: AggregationState, module: str, organization: str) -> Float64Array:
        found = state.arrays.get(_name(module, organization))
        if found is None:
            return np.zeros((self.shapes[module].out_features, self.settings.rank))
        return found.astype(np.float64, copy=False)

    def _check_state(self, state: AggregationState) -> None:
        expected = dict(self._expected_arrays(self.organizations(state)))
        odd = sorted(state.arrays.keys() ^ expected.keys())
        if odd:
            found = "missing" if odd[0] in expected else "not expected"
            raise ValueError(f"state of isolated adapters: {odd[0][:200]!r} is {found}")
        for name, shape in expected.items():
            array = state.arrays[name]
            if array.dtype != np.float64 or array.shape != shape:
                raise ValueError(
                    f"state of isolated adapters: {name[:200]!r} is {array.dtype} of shape "
                    f"{array.shape}: expected float64 of shape {shape}"
                )
        for organization in self.organizations(state):
            count = float(state.arrays[_EXAMPLES + organization].item())
            if not (1 <= count < 2**53 and count.is_integer()):
                raise ValueError(
                    f"state of isolated adapters: {organization[:80]!r} used {count} records, "
                    "expected a whole number from 1"
                )

    def _expected_arrays(
        self, organizations: Sequence[str]
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        for organization in organizations:
            yield _EXAMPLES + organization, (1, 1)
            for module, shape in self.shapes.items():
                yield _name(module, organization), (shape.out_features, self.settings.rank)


def _name(module: str, organization: str) -> str:
    return f"{module}{B_SUFFIX}/{organization}"
