"""Which records a round trains on: those whose keyed hash is smallest.

Within a round the draw is without replacement; rounds draw independently of one another, so a
record may come back in the next round or stay out of several. There is no epoch: an epoch's order
would depend on every record, and forgetting one would change all that follows.
"""

import hashlib
import heapq
import hmac
from collections.abc import Iterable

from llm.keyed_hash import encoded
from llm.records import Record

_PURPOSE = "foedus/draw/v1"


def draw(
    records: Iterable[Record], count: int, *, seed: int, round: int, organization: str
) -> tuple[Record, ...]:
    """Draw the ``count`` records with the smallest HMAC-SHA256 under the run's seed.

    The value of a record is ``HMAC-SHA256(SHA-256(encoded(purpose, seed)), encoded(purpose,
    round, organization, record.id))``: it depends on no other record. Hence the result does not
    depend on the order of ``records``; taking out a record that was not drawn changes nothing;
    taking out one that was drawn lets the next smallest in and leaves the others as they were.

    Parameters
    ----------
    records : iterable of Record
        All records the organization may train on, with distinct ids.
    count : int
        How many to draw, at least 0. All are drawn where there are fewer.
    seed, round : int
        The run's seed and the round, 64-bit signed.
    organization : str
        The organization's name.

    Returns
    -------
    tuple of Record
        Ordered by their values, ascending; by id should two values ever be equal.

    Raises
    ------
    ValueError
        If ``count`` is negative or two records share an id.
    """
    if count < 0:
        raise ValueError(f"cannot draw {count} records: expected a count of at least 0")
    by_id: dict[str, Record] = {}
    for record in records:
        if by_id.setdefault(record.id, record) is not record:
            raise ValueError(f"two records share the id {record.id!r}: expected distinct ids")
    key = hashlib.sha256(encoded(_PURPOSE, seed)).digest()
    prefix = encoded(_PURPOSE, round, organization)
    valued = (
        (hmac.digest(key, prefix + encoded(identifier), "sha256"), identifier)
        for identifier in by_id
    )
    return tuple(by_id[identifier] for _, identifier in heapq.nsmallest(count, valued))
