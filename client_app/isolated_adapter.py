"""An organization's own adapter, in a run in isolation: made of nothing but its own updates."""

from collections.abc import Iterator

from client_app.own_record import OwnRecord, OwnReply
from llm.factors import Arrays, arrays_from_adapter
from strategies.aggregation import AggregationRule, Contribution
from strategies.home import organization_folder
from strategies.replies import Verdict
from strategies.settings import RunSettings


def isolated_adapter(
    rule: AggregationRule, settings: RunSettings, organization: str, task: bytes, round_number: int
) -> Arrays:
    """Return what the organization's updates have made of the base by now, under PEFT's names.

    Put together from what it keeps itself: whatever the coordinator sends, nothing of another's
    data is in it. An update counts where the coordinator's receipt, once it was verified, says that
    it did.

    Parameters
    ----------
    rule : AggregationRule
        The run's.
    settings : RunSettings
        The run's.
    organization : str
        Its name.
    task : bytes
        The run's task, 32 bytes.
    round_number : int
        The run's own round that is about to begin.

    Raises
    ------
    ArchiveError
        If an update that counted was erased or altered.
    """
    state = rule.initial_state()
    for number, record, reply in _replies(settings, organization, task, round_number):
        receipt = reply.round_receipt()
        if receipt is None or receipt.verdict != Verdict.ACCEPTED:
            continue
        arrays = record.payload(reply)
        if arrays is None:
            continue
        contribution = Contribution(organization, reply.signed.update.num_examples, arrays)
        state = rule.aggregate(state, number, [contribution]).state
    return arrays_from_adapter(rule.adapter(state))


def _replies(
    settings: RunSettings, organization: str, task: bytes, round_number: int
) -> Iterator[tuple[int, OwnRecord, OwnReply]]:
    """Yield the organization's replies in order: those of kept rounds, then those of the run."""
    folder, kept = organization_folder(settings.home_path, organization), settings.kept_rounds
    places = [kept.place_of(number) for number in range(1, kept.after + 1)]
    places += [(task, number) for number in range(1, round_number)]
    for number, (of_task, own_number) in enumerate(places, start=1):
        record = OwnRecord(folder, of_task)
        reply = record.reply_in(own_number)
        if reply is not None:
            yield number, record, reply
