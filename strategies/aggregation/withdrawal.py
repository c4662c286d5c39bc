"""Take an organization's direct terms out of the adapter, without training."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from strategies.aggregation.rule import AggregationRule, Contribution
from strategies.aggregation.state import AggregationState


def without_organization(
    rule: AggregationRule,
    rounds: Iterable[tuple[int, Sequence[Contribution]]],
    *organizations: str,
) -> AggregationState:
    """Sum the stored terms of every round again, without some organizations'.

    The others keep the weights that they had: the result has the bits of a run in which these
    organizations moved nothing. Renormalized, the others' terms would each weigh more than when
    they were made, and overshoot (measured: docs/unlearning.md). It is not the run that would have
    been: later contributions of the others were trained from adapters that held the terms now
    taken out, which is why this is not called exact unlearning.

    Parameters
    ----------
    rule : AggregationRule
        One that is ``separable``.
    rounds : iterable of (round, contributions)
        The accepted contributions of each round, in the order of the rounds. One round is held at
        a time.
    *organizations : str
        Whose terms to take out.

    Returns
    -------
    AggregationState
        A round that no other organization took part in leaves it unchanged.

    Raises
    ------
    ValueError
        If the rule is not separable, or none of them took part in any round.
    """
    named = ", ".join(map(repr, organizations))
    if not rule.separable:
        raise ValueError(
            f"{rule.name} with robust statistic {rule.settings.robust!r} is not separable: "
            f"the terms of {named} cannot be taken out; replay the run without them"
        )
    state, took_part = rule.initial_state(), False
    for number, contributions in rounds:
        leaving = [c.organization in organizations for c in contributions]
        took_part |= any(leaving)
        if not all(leaving):
            left = [
                _still(one) if leaves else one
                for one, leaves in zip(contributions, leaving, strict=True)
            ]
            state = rule.aggregate(state, number, left).state
    if not took_part:
        raise ValueError(f"{named} took part in no round: there is nothing to take out")
    return state


def _still(contribution: Contribution) -> Contribution:
    """Return a contribution of the same weight that moves nothing."""
    zeros = {name: np.zeros_like(array) for name, array in contribution.arrays.items()}
    return replace(contribution, arrays=zeros)
