"""Checks each reply before it counts; one that fails is left out and named, one may decline."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from blockchain.canonical import hash_arrays
from blockchain.model_update import DECLINED
from blockchain.typed_data import check_signer
from llm.factors import Arrays
from strategies import protocol
from strategies.protocol import ProtocolError
from strategies.signed_update import Opening, SignedUpdate, TaskContext


class Verdict(IntEnum):
    """What became of a signed update; the code stands in its Merkle leaf."""

    ACCEPTED = 0
    WRONG_ORGANIZATION = 1
    WRONG_ROUND = 2
    MALFORMED = 3
    WRONG_NAMES = 4
    WRONG_SHAPE = 5
    NOT_FINITE = 6
    WRONG_HASH = 7
    NORM_EXCEEDED = 8
    TOO_FEW = 9
    NO_AGGREGATE = 10
    WRONG_COMMITMENT = 11
    CONTRADICTED = 12
    PAYLOAD_UNAVAILABLE = 13
    DECLINED = 14


#: Verdicts of updates that hold: that too few others joined, or what came of all, is no fault of
#: their senders'.
VERDICTS_OF_SOUND_UPDATES: Final = frozenset(
    {Verdict.ACCEPTED, Verdict.TOO_FEW, Verdict.NO_AGGREGATE}
)

#: What may become of a signed decline. It declines whatever else happens, unless the message
#: around it was out of order or its sender signed something else as well: an organization that
#: sends such a message must not be able to make an honest coordinator's round fail the audit.
VERDICTS_OF_DECLINES: Final = frozenset(
    {
        Verdict.DECLINED,
        Verdict.WRONG_ORGANIZATION,
        Verdict.WRONG_ROUND,
        Verdict.MALFORMED,
        Verdict.CONTRADICTED,
    }
)


@dataclass(frozen=True)
class Invitation:
    """What an organization was asked for in a round: what its reply is held against.

    Parameters
    ----------
    organization : str
        Its name.
    node : int
        The Flower node it answers from.
    round : int
        The round.
    parent : bytes
        Hash of the adapter that the round was opened on, 32 bytes.
    shapes : sequence of mapping of str to tuple of int
        Names and shapes of the arrays an honest update consists of: one mapping for each rank that
        it may have, the largest last.
    max_examples : int
        The most records the terms let it use in a round.
    """

    organization: str
    node: int
    round: int
    parent: bytes
    shapes: Sequence[Mapping[str, tuple[int, ...]]]
    max_examples: int


@dataclass(frozen=True)
class CheckedReply:
    """A signed reply with its verdict.

    Parameters
    ----------
    organization : str
        Who sent it.
    verdict : Verdict
        ``ACCEPTED``, ``DECLINED``, or why it does not count.
    signed : SignedUpdate
        What its sender signed. The opening is as claimed, unless the reply was accepted.
    reason : str
        One line for the log; empty when accepted or declined. Holds nothing of the reply's
        payload.
    arrays : dict of str to ndarray, or None
        The update; ``None`` unless its names, shapes and values held.
    metrics : dict of str to float
        Finite figures reported beside it.
    """

    organization: str
    verdict: Verdict
    signed: SignedUpdate
    reason: str = ""
    arrays: Arrays | None = field(default=None, repr=False)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_examples(self) -> int:
        """Records used, as signed."""
        return self.signed.update.num_examples

    @property
    def update_hash(self) -> bytes:
        """Canonical hash of the update, as claimed; recomputed when accepted."""
        return self.signed.opening.update_hash

    def rejected(self, verdict: Verdict, reason: str) -> "CheckedReply":
        """Return the same reply as one that does not count."""
        return CheckedReply(self.organization, verdict, self.signed, reason)


class UnsignedReplyError(Exception):
    """A reply that its sender did not sign for this round: it is as if none had come."""


class _RejectedError(Exception):
    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason


def check_reply(
    reply: Message, invitation: Invitation, context: TaskContext, keys: Sequence[str]
) -> CheckedReply:
    """Hold a reply against what its sender was asked for.

    Parameters
    ----------
    reply : Message
        An untrusted reply that carries content (not an error).
    invitation : Invitation
        The invitation it answers, found by the id of the message.
    context : TaskContext
        What its signature must be bound to.
    keys : sequence of str
        Addresses of the keys that were the organization's while the round was open.

    Returns
    -------
    CheckedReply
        Of every signed reply, whatever else is wrong with it. One that declines is neither
        accepted nor rejected; its figures are kept. The norm bound, which needs the aggregation
        rule, is the strategy's to check.

    Raises
    ------
    UnsignedReplyError
        If the organization did not sign for this round of this task.
    """
    content = reply.content
    organization = invitation.organization
    signed = _signed(content, invitation, context, keys)
    try:
        header = _header(content)
        _check_sender(header, reply.metadata.src_node_id, invitation)
        _check_round(header, invitation)
        if signed.declines:
            _check_no_update(content)
            figures = finite_metrics(content)
            return CheckedReply(organization, Verdict.DECLINED, signed, metrics=figures)
        _check_records(signed, invitation)
        _check_opening(signed)
        arrays = _arrays(content, invitation)
        _check_hash(arrays, signed.opening.update_hash)
    except ProtocolError as error:
        return CheckedReply(organization, Verdict.MALFORMED, signed, str(error))
    except _RejectedError as error:
        return CheckedReply(organization, error.verdict, signed, error.reason)
    return CheckedReply(
        organization,
        Verdict.ACCEPTED,
        signed,
        arrays=arrays,
        metrics=finite_metrics(content),
    )


def _signed(
    content: RecordDict, invitation: Invitation, context: TaskContext, keys: Sequence[str]
) -> SignedUpdate:
    """Return what the reply's sender signed, if that is for this round."""
    try:
        header = _header(content)
        update = context.update(
            invitation.organization,
            invitation.round,
            invitation.parent,
            committed=protocol.digest(header, "commitment"),
            num_examples=protocol.integer(header, "num-examples"),
            deadline=protocol.integer(header, "deadline"),
        )
        signature = protocol.signature(header, "signature")
        check_signer(update.digest(context.domain), signature, *keys)
    except (ProtocolError, ValueError) as error:
        raise UnsignedReplyError(str(error)) from error
    return SignedUpdate(update, signature, _opening(content))


def _opening(content: RecordDict) -> Opening:
    """Return the opening as claimed; zeros, which open nothing, where there is none."""
    record = content.get(protocol.OPENING)
    if not isinstance(record, ConfigRecord):
        return Opening.of_nothing()
    try:
        return Opening(protocol.digest(record, "update-hash"), protocol.digest(record, "salt"))
    except ProtocolError:
        return Opening.of_nothing()


#: Figures are logged and stored: what a reply may put there is bounded.
_METRIC_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_MAX_METRICS = 64


def finite_metrics(content: RecordDict) -> dict[str, float]:
    """Return the finite scalar figures of a reply; anything else in its place is left out.

    So are names of another form than ours, and all figures where they are absurdly many.
    """
    record = content.get(protocol.METRICS)
    if not isinstance(record, MetricRecord) or len(record) > _MAX_METRICS:
        return {}
    return {
        name: float(value)
        for name, value in record.items()
        if _METRIC_NAME.fullmatch(name)
        and isinstance(value, int | float)
        and abs(value) < math.inf
        and abs(value) < 2**63
    }


def _header(content: RecordDict) -> ConfigRecord:
    header = content.get(protocol.HEADER)
    if not isinstance(header, ConfigRecord):
        raise ProtocolError(f"a reply without a {protocol.HEADER!r} record")
    return header


def _check_sender(header: ConfigRecord, node: int, invitation: Invitation) -> None:
    if node != invitation.node:
        raise _RejectedError(
            Verdict.WRONG_ORGANIZATION,
            f"answered by node {node}, expected node {invitation.node}",
        )
    organization = protocol.text(header, "organization")
    if organization != invitation.organization:
        raise _RejectedError(
            Verdict.WRONG_ORGANIZATION,
            f"speaks for {organization[:64]!r}, expected {invitation.organization!r}",
        )


def _check_round(header: ConfigRecord, invitation: Invitation) -> None:
    stated = protocol.integer(header, "round")
    if stated != invitation.round:
        raise _RejectedError(
            Verdict.WRONG_ROUND, f"answers round {stated}, expected round {invitation.round}"
        )


def _check_no_update(content: RecordDict) -> None:
    if protocol.UPDATE in content:
        raise ProtocolError(
            f"declines the round and carries an {protocol.UPDATE!r} record, expected none"
        )


def _check_records(signed: SignedUpdate, invitation: Invitation) -> None:
    """Hold an update against the number of records that one may use; a decline alone uses none."""
    num_examples, most = signed.update.num_examples, invitation.max_examples
    if signed.update.commitment == DECLINED:
        raise ProtocolError(
            f"num-examples: {num_examples} with the commitment of a decline, expected 0"
        )
    if num_examples == 0:
        raise ProtocolError(
            f"num-examples: 0 with the commitment of an update, expected 1 to {most}, or a decline"
        )
    if num_examples > most:
        raise ProtocolError(f"num-examples: {num_examples}, expected 1 to {most}")


def _check_opening(signed: SignedUpdate) -> None:
    opened = signed.opening.commitment(signed.update.num_examples)
    if opened != signed.update.commitment:
        raise _RejectedError(
            Verdict.WRONG_COMMITMENT,
            f"update hash and salt open 0x{opened.hex()[:16]}…, what was signed is "
            f"0x{signed.update.commitment.hex()[:16]}…",
        )


def _arrays(content: RecordDict, invitation: Invitation) -> Arrays:
    record = content.get(protocol.UPDATE)
    if not isinstance(record, ArrayRecord):
        raise ProtocolError(f"a reply without an {protocol.UPDATE!r} record of arrays")
    shapes = _shapes_of(record, invitation)
    missing = sorted(shapes.keys() - record.keys())
    surplus = sorted(record.keys() - shapes.keys())
    if missing or surplus:
        raise _RejectedError(
            Verdict.WRONG_NAMES,
            f"{len(missing)} arrays missing ({', '.join(missing[:2])}), "
            f"{len(surplus)} not asked for, expected {len(shapes)}",
        )
    arrays: Arrays = {}
    for name, shape in shapes.items():
        try:
            arrays[name] = protocol.decode_array(record[name], tuple(shape))
        except ProtocolError as error:
            said = str(tuple(record[name].shape))[:60]
            raise _RejectedError(
                Verdict.WRONG_SHAPE, f"{name}: says it has shape {said}: {error}"
            ) from error
    not_finite = sum(int((~np.isfinite(array)).sum()) for array in arrays.values())
    if not_finite:
        total = sum(array.size for array in arrays.values())
        raise _RejectedError(
            Verdict.NOT_FINITE, f"{not_finite:,} of {total:,} values are not finite"
        )
    return arrays


def _shapes_of(record: ArrayRecord, invitation: Invitation) -> Mapping[str, tuple[int, ...]]:
    """Return which of the shapes asked for a record says it has; the largest, where it has none.

    What the record says is a stranger's word: decoding holds the bytes against it.
    """
    said = {name: tuple(array.shape) for name, array in record.items()}
    for shapes in invitation.shapes:
        if said == {name: tuple(shape) for name, shape in shapes.items()}:
            return shapes
    return invitation.shapes[-1]


def _check_hash(arrays: Arrays, claimed: bytes) -> None:
    computed = hash_arrays(arrays)
    if computed != claimed:
        raise _RejectedError(
            Verdict.WRONG_HASH,
            f"the update hashes to {computed.hex()[:16]}…, the reply says {claimed.hex()[:16]}…",
        )
