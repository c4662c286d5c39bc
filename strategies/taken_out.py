"""An organization's own terms taken out of an aggregate, and the rest renormalized."""

from collections.abc import Iterable, Sequence

from strategies.aggregation import AggregationRule, AggregationState, Contribution


def state_without(
    rule: AggregationRule,
    rounds: Iterable[tuple[int, Sequence[Contribution]]],
    organization: str,
) -> AggregationState:
    """Return the state that the others' updates make by themselves.

    Under ``ffa`` the global B is the sum over rounds t and organizations k of ``p_tk dB_tk``, with
    weights p that sum to one in each round. Without organization w it is the sum of
    ``p_tk / (1 - p_tw) dB_tk``: what :meth:`AggregationRule.aggregate` makes of the others'
    contributions, round by round. A round to which nobody else contributed adds nothing.

    It is fast, and no exact unlearning: later updates of the others were trained from adapters that
    held the organization's.

    Parameters
    ----------
    rule : AggregationRule
        The run's.
    rounds : iterable of (int, sequence of Contribution)
        Each round's number and the contributions that made its aggregate, in order.
    organization : str
        Who is taken out.
    """
    state = rule.initial_state()
    for number, contributions in rounds:
        others = [one for one in contributions if one.organization != organization]
        if len(others) >= max(1, rule.minimum_contributions):
            state = rule.aggregate(state, number, others).state
    return state
