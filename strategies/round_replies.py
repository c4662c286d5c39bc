"""What comes back in a round: each signed reply with its verdict, and who is absent and why."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from flwr.app import Message

from strategies.aggregation import Contribution
from strategies.replies import (
    CheckedReply,
    Invitation,
    UnsignedReplyError,
    Verdict,
    check_reply,
)
from strategies.reply_errors import error_of
from strategies.round_notary import RoundNotary
from strategies.run_progress import Listener
from strategies.signed_update import TaskContext


def check_replies(
    replies: Iterable[Message],
    invited: Sequence[tuple[Message, Invitation]],
    notary: RoundNotary,
    listener: Listener,
) -> tuple[list[CheckedReply], dict[str, str]]:
    """Hold every reply against the invitation that it answers.

    Parameters
    ----------
    replies : iterable of Message
        What came, in any order.
    invited : sequence of (Message, Invitation)
        What was sent to each organization, in the order of their names, and what it asks for.
    notary : RoundNotary
        Knows whose keys may sign, and for which task.
    listener : callable
        Told who is absent.

    Returns
    -------
    checked : list of CheckedReply
        One for each signed reply, in the order of the invitations.
    absent : dict of str to str
        Everybody else, and whether ``late``, ``failed`` or ``unsigned``.
    """
    by_message = {reply.metadata.reply_to_message_id: reply for reply in replies}
    checked, absent = [], {}
    for message, invitation in invited:
        name = invitation.organization
        reply = by_message.get(message.metadata.message_id)
        if reply is None or reply.has_error():
            reason, error = "late" if reply is None else "failed", error_of(reply)
        else:
            keys = notary.keys(name, invitation.round)
            try:
                checked.append(check_reply(reply, invitation, notary.context, keys))
                continue
            except UnsignedReplyError as unsigned:
                reason, error = "unsigned", str(unsigned)
        absent[name] = reason
        listener("organization-absent", {"organization": name, "reason": reason, "error": error})
    return checked, absent


def within_norm(
    reply: CheckedReply, norm: Callable[[Contribution], float], bound: float
) -> CheckedReply:
    """Reject an accepted update beyond the bound on its Frobenius norm; 0 is no bound."""
    if reply.verdict is not Verdict.ACCEPTED or bound == 0.0:
        return reply
    found = norm(Contribution(reply.organization, reply.num_examples, reply.arrays or {}))
    if found <= bound:
        return reply
    return reply.rejected(
        Verdict.NORM_EXCEEDED, f"the update's norm is {found:.4g}, the terms allow {bound:.4g}"
    )


def uncontradicted(
    reply: CheckedReply, submitted: Mapping[str, bytes], context: TaskContext
) -> CheckedReply:
    """Reject a reply whose sender has signed something else for the round on the chain.

    Parameters
    ----------
    reply : CheckedReply
        The reply.
    submitted : mapping of str to bytes
        EIP-712 digests of what organizations submitted to the chain themselves, 32 bytes each.
    context : TaskContext
        The task that digests are bound to.
    """
    on_chain = submitted.get(reply.organization)
    digest = reply.signed.update.digest(context.domain)
    if on_chain is None or on_chain == digest:
        return reply
    return reply.rejected(
        Verdict.CONTRADICTED,
        f"signed 0x{digest.hex()[:16]}…, and on the chain 0x{on_chain.hex()[:16]}…",
    )


def report(reply: CheckedReply, listener: Listener) -> None:
    """Tell what became of a signed reply."""
    if reply.verdict is Verdict.ACCEPTED:
        listener(
            "update-accepted",
            {
                "organization": reply.organization,
                "commitment": reply.signed.update.commitment.hex(),
                "examples": reply.num_examples,
                "metrics": dict(reply.metrics),
            },
        )
    elif reply.verdict is Verdict.DECLINED:
        listener(
            "organization-declined",
            {"organization": reply.organization, "metrics": dict(reply.metrics)},
        )
    else:
        listener(
            "update-rejected",
            {
                "organization": reply.organization,
                "code": reply.verdict.name,
                "reason": reply.reason,
            },
        )
