"""Weights of a round: shares of the records used, none above the cap."""

from collections.abc import Mapping
from fractions import Fraction


def capped_weights(num_examples: Mapping[str, int], cap: float) -> dict[str, float]:
    """Share the round's weight by records used, at most ``cap`` an organization.

    What an organization would have above the cap goes to those below it in proportion to their
    records, until none is above (water-filling). Where the cap cannot hold, because fewer than
    ``1 / cap`` organizations took part, every organization has the same weight. Worked out in
    exact fractions and rounded once.

    Parameters
    ----------
    num_examples : mapping of str to int
        Records each organization used in the round, at least 1; never what it claims to hold.
    cap : float
        Largest share, 0 < cap <= 1; read as the decimal number it prints as (0.4 is 2/5).

    Returns
    -------
    dict of str to float
        By organization in sorted order; the sum is 1 up to rounding.

    Raises
    ------
    ValueError
        If there is no organization, one used no record, or the cap is out of range.
    """
    if not 0 < cap <= 1:
        raise ValueError(f"weight cap {cap} is out of range: expected 0 < cap <= 1")
    if not num_examples:
        raise ValueError("no contribution to weigh: expected at least one organization")
    for organization, count in num_examples.items():
        if count < 1:
            raise ValueError(f"{organization} used {count} records: expected at least 1")
    limit = max(Fraction(str(cap)), Fraction(1, len(num_examples)))
    capped: set[str] = set()
    while True:
        free = {name: count for name, count in num_examples.items() if name not in capped}
        left = 1 - limit * len(capped)
        records = sum(free.values())
        shares = {name: left * Fraction(count, records) for name, count in free.items()}
        above = {name for name, share in shares.items() if share > limit}
        if not above:
            break
        capped |= above
    shares |= dict.fromkeys(capped, limit)
    return {name: float(shares[name]) for name in sorted(shares)}
