"""What went wrong at a node, out of the long text in which Flower wraps it."""

import re

from flwr.app import Message

_OURS = re.compile(r"OrganizationError: ([^\n]*)")
_MAX_CHARACTERS = 500


def error_of(reply: Message | None) -> str:
    """Return one line for a reply that is missing or an error."""
    if reply is None:
        return "no answer in time"
    reason = str(reply.error.reason)
    ours = _OURS.findall(reason)
    line = ours[-1] if ours else reason
    # The text is a stranger's, and goes to terminals.
    printable = "".join(c if c.isprintable() else " " for c in line[: 4 * _MAX_CHARACTERS])
    return " ".join(printable.split())[:_MAX_CHARACTERS]
