"""The closing message: the last receipts go out, the final evaluations come back."""

from collections.abc import Collection
from dataclasses import dataclass

from flwr.serverapp import Grid

from server_app.run_log import RunLog
from strategies import protocol
from strategies.federated_lora import FederatedLora
from strategies.protocol import ProtocolError
from strategies.replies import finite_metrics
from strategies.reply_errors import error_of


class ClosingError(RuntimeError):
    """A run could not be closed."""


@dataclass(frozen=True)
class Closing:
    """An organization's last word.

    Parameters
    ----------
    domain : str
        What its texts are.
    metrics : dict of str to float
        Its final evaluation.
    """

    domain: str
    metrics: dict[str, float]


def close_run(
    grid: Grid,
    strategy: FederatedLora,
    log: RunLog,
    *,
    timeout: float,
    evaluated: bool = True,
    needed: Collection[str] = (),
) -> dict[str, Closing]:
    """Send the closing message and return what came back, by organization.

    Parameters
    ----------
    grid : Grid
        The connection.
    strategy : FederatedLora
        The run's.
    log : RunLog
        Told of every event.
    timeout : float
        Seconds to wait.
    evaluated : bool
        Whether the adapter is evaluated: not where another run takes this one's place at once.
    needed : collection of str
        Organizations without whose word the run has no result.

    One that does not answer, or not in order, is named in the log and left out.

    Raises
    ------
    ClosingError
        If nobody answers, or one that is needed does not: the run has no result then.
    """
    messages = strategy.closing_messages(evaluated=evaluated)
    replies = {
        reply.metadata.reply_to_message_id: reply
        for reply in grid.send_and_receive(messages, timeout=timeout)
    }
    closings = {}
    for message in messages:
        organization = protocol.text(
            message.content.config_records[protocol.HEADER], "organization"
        )
        reply = replies.get(message.metadata.message_id)
        if reply is None or reply.has_error():
            log("closing-missing", {"organization": organization, "error": error_of(reply)})
            continue
        try:
            header = reply.content.config_records[protocol.HEADER]
            domain = protocol.text(header, "domain")[:100]
        except (KeyError, ProtocolError) as error:
            log("closing-missing", {"organization": organization, "error": str(error)})
            continue
        closings[organization] = Closing(domain, finite_metrics(reply.content))
        log("organization-closed", {"organization": organization})
    if not closings:
        raise ClosingError("no organization answered the closing message; the log says why")
    if missing := sorted(set(needed) - closings.keys()):
        raise ClosingError(f"{missing[0]} did not say what has come of it; the log says why")
    return closings
