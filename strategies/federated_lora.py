"""The Flower strategy: open a round on chain, invite, check, aggregate, store, seal."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from blockchain.canonical import hash_arrays
from llm.factors import Arrays, arrays_from_adapter
from strategies import protocol
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.attesting import Attesting
from strategies.protocol import RoundReceipt
from strategies.replies import (
    CheckedReply,
    Invitation,
    UnsignedReplyError,
    Verdict,
    check_reply,
)
from strategies.reply_errors import error_of
from strategies.rewards import RewardTable
from strategies.round_aggregate import RoundAggregate, aggregate_round
from strategies.round_notary import RoundNotary
from strategies.round_outcome import Entry, RoundOutcome
from strategies.round_terms import Participant, RoundTerms
from strategies.run_archive import ArchiveError, RunArchive
from strategies.signed_update import Opening, TaskContext

#: Told of everything worth a line in the log: the event's name and its particulars.
Listener = Callable[[str, Mapping[str, Any]], None]


class FederatedLora(Strategy):
    """Federated LoRA under any rule of :mod:`strategies.aggregation`.

    Parameters
    ----------
    rule : AggregationRule
        The arithmetic.
    archive : RunArchive
        Where every round is stored before the next begins.
    notary : RoundNotary
        Opens and seals rounds on the public chain.
    terms : RoundTerms
        What holds in every round.
    save_adapter : callable
        Given round, adapter arrays and folder, writes a PEFT folder.
    listener : callable
        Told of every event.
    """

    def __init__(
        self,
        *,
        rule: AggregationRule,
        archive: RunArchive,
        notary: RoundNotary,
        terms: RoundTerms,
        save_adapter: Callable[[int, Arrays, Path], None],
        listener: Listener,
    ) -> None:
        self._rule = rule
        self._archive = archive
        self._notary = notary
        self._participants: list[Participant] = []
        self._terms = terms
        self._save_adapter = save_adapter
        self._listener = listener
        self._invited: list[tuple[Message, Invitation]] = []
        self._receipts: dict[str, RoundReceipt] = {}
        self._opened = 0.0
        self._initial = arrays_from_adapter(rule.adapter(rule.initial_state()))
        self._round = 0
        self._parent_round = 0
        self._rewards = RewardTable.empty(notary.task)
        self._attesting = Attesting(
            archive=archive,
            notary=notary,
            exact=rule.tolerance == 0.0,
            deadline=terms.deadline,
            listener=listener,
        )
        self._state: AggregationState = rule.initial_state()

    # Before the first round

    def begin(self) -> None:
        """Store round 0, the state the run starts from."""
        outcome = self._unchanged(0)
        self._prepare(outcome, self._initial, record={}, openings={})

    def resume(self) -> int:
        """Take up the last round on disk, sealing it first if that was left undone.

        Returns
        -------
        int
            The last finished round.

        Raises
        ------
        ArchiveError
            If the state on disk is not the one that the round ended with.
        ChainError
            If the chain does not hold the last round as it stands on disk.
        """
        last = self._archive.last_prepared_round()
        if last is None:
            self.begin()
            return 0
        outcome = RoundOutcome.from_manifest(self._archive.manifest(last))
        state = self._archive.state(last)
        if hash_arrays(state) != outcome.state:
            raise ArchiveError(
                f"{self._archive.round_folder(last)}: the state is not the one the round ended "
                "with; `foedus verify` says what else was altered"
            )
        if last > 0 and self._archive.is_sealed(last):
            self._notary.confirm(outcome)
        elif last > 0:
            self._seal(outcome)
        self._round = self._parent_round = last
        self._state = self._rule.restore(state)
        self._rewards = outcome.rewards
        for number in range(1, last + 1):
            sealed = RoundOutcome.from_manifest(self._archive.manifest(number))
            self._receipts.update(self._notary.receipts(sealed, self._archive.seal(number)))
        return last

    def admit(self, participants: Iterable[Participant]) -> None:
        """Say who is invited to each round from now on."""
        self._participants = sorted(participants, key=lambda p: p.organization)
        self._attesting.admit(
            p for p in self._participants if p.organization in self._terms.attestors
        )

    # One round, in Flower's four steps

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Open the round on chain and invite every organization."""
        self.attest_last(grid)
        round_number = self._round + 1
        adapter = self.adapter_arrays()
        parent = hash_arrays(adapter)
        self._notary.open_round(round_number, parent)
        self._opened = time.monotonic()
        self._listener("round-opened", {"round": round_number, "adapter": parent.hex()})
        travelling = protocol.array_record(self.travelling_arrays(adapter))
        self._invited = [
            (
                self._message(p, protocol.TRAIN, round_number, travelling, parent),
                Invitation(
                    organization=p.organization,
                    node=p.node,
                    round=round_number,
                    parent=parent,
                    shapes=self._rule.expected_shapes(round_number, p.rank),
                    max_examples=self._terms.max_examples,
                ),
            )
            for p in self._participants
        ]
        return [message for message, _ in self._invited]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the replies, aggregate what holds, store the round, seal it."""
        round_number = self._round + 1
        waited = time.monotonic() - self._opened
        checked, absent = self._checked(replies)
        submitted = self._submissions(round_number)
        checked = [_uncontradicted(reply, submitted, self._notary.context) for reply in checked]
        for reply in checked:
            self._report(reply)
        accepted = [reply for reply in checked if reply.verdict is Verdict.ACCEPTED]

        started = time.monotonic()
        result = self._aggregate(round_number, accepted)
        aggregate, adapter = result.aggregate, result.adapter
        checked = [result.judged(reply) for reply in checked]
        outcome = RoundOutcome.of(
            round_number=round_number,
            parent_round=self._parent_round,
            rule=self._rule.name,
            parent=hash_arrays(self.adapter_arrays()),
            state=result.state,
            adapter=adapter,
            rewards=self._rewards,
            entries=self._entries(
                checked, submitted, {} if aggregate is None else aggregate.weights
            ),
            absent=absent,
        )
        for reply in accepted:
            self._archive.store_update(reply.arrays or {})
        self._state = result.state
        outcome = self._prepare(
            outcome,
            adapter,
            openings={reply.organization: reply.signed.opening for reply in accepted},
            record={
                "seconds": {"waited": waited, "aggregated": time.monotonic() - started},
                "reasons": {r.organization: r.reason for r in checked if r.reason},
                "metrics": {r.organization: dict(r.metrics) for r in checked},
                "diagnostics": {} if aggregate is None else aggregate.diagnostics,
                "aggregation_error": (
                    aggregate.error.total if aggregate is not None and aggregate.error else 0.0
                ),
            },
        )
        self._seal(outcome)
        self._round = self._parent_round = round_number
        return protocol.array_record(adapter), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask nothing: organizations evaluate the adapter they receive, in their train reply."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return nothing: see :meth:`configure_evaluate`."""
        return None

    def summary(self) -> None:
        """Log the rule and who takes part."""
        self._listener(
            "strategy",
            {
                "rule": self._rule.name,
                "organizations": [p.organization for p in self._participants],
            },
        )

    # Attestations and rewards

    def attest_last(self, grid: Grid) -> None:
        """Have the last sealed round attested, and count what it earned; once is enough.

        What it earned is sealed with the round that follows.
        """
        if self._parent_round == 0 or self._rewards.round >= self._parent_round:
            return
        scores = self._attesting.attest(self._parent_round, grid)
        if scores is not None:
            self._rewards = self._rewards.after(scores, self._terms.rewards)

    def close_rewards(self, grid: Grid) -> None:
        """Seal what the last round earned, in a round of its own that nobody trains in.

        Nothing is left to a next round that never comes. Where the last round earned nothing, or
        was not attested, there is nothing to seal.
        """
        self.attest_last(grid)
        sealed = RoundOutcome.from_manifest(self._archive.manifest(self._parent_round)).rewards
        if self._rewards.amounts == sealed.amounts:
            return
        round_number = self._round + 1
        self._notary.open_round(round_number, hash_arrays(self.adapter_arrays()))
        outcome = self._prepare(
            self._unchanged(round_number),
            self.adapter_arrays(),
            record={"metrics": {}},
            openings={},
        )
        self._seal(outcome)
        self._round = self._parent_round = round_number
        self.attest_last(grid)

    def _unchanged(self, round_number: int) -> RoundOutcome:
        return RoundOutcome.unchanged(
            round_number=round_number,
            parent_round=self._parent_round,
            rule=self._rule.name,
            state=self._state,
            adapter=self.adapter_arrays(),
            rewards=self._rewards,
        )

    # What the closing message needs

    @property
    def last_round(self) -> int:
        """The last finished round."""
        return self._round

    def adapter_arrays(self) -> Arrays:
        """Return the global adapter under its PEFT names."""
        return arrays_from_adapter(self._rule.adapter(self._state))

    def travelling_arrays(self, adapter: Arrays) -> Arrays:
        """Return what of the adapter differs from the initial one, which all derive from the seed.

        With a frozen A, A therefore never travels.
        """
        return {
            name: array
            for name, array in adapter.items()
            if name not in self._initial
            or self._initial[name].shape != array.shape
            or self._initial[name].tobytes() != array.tobytes()
        }

    def closing_messages(self) -> list[Message]:
        """Return the messages that end the run: the last receipts and the final adapter."""
        adapter = self.adapter_arrays()
        travelling = protocol.array_record(self.travelling_arrays(adapter))
        return [
            self._message(p, protocol.CLOSING, self._round, travelling, hash_arrays(adapter))
            for p in self._participants
        ]

    # Parts

    def _message(
        self,
        participant: Participant,
        kind: str,
        round_number: int,
        travelling: ArrayRecord,
        adapter_hash: bytes,
    ) -> Message:
        receipt = self._receipts.get(participant.organization)
        header = protocol.header_record(
            {
                "organization": participant.organization,
                "task": self._notary.task,
                "run": self._archive.name,
                "round": round_number,
                "rank": participant.rank,
                "adapter-hash": adapter_hash,
                **(receipt.to_header() if receipt else {}),
            }
        )
        return Message(
            content=RecordDict({protocol.ADAPTER: travelling, protocol.HEADER: header}),
            message_type=kind,
            dst_node_id=participant.node,
            group_id=str(round_number),
            ttl=self._terms.deadline,
        )

    def _checked(self, replies: Iterable[Message]) -> tuple[list[CheckedReply], dict[str, str]]:
        """Return the checked replies, sorted by organization, and who is absent and why."""
        by_message = {reply.metadata.reply_to_message_id: reply for reply in replies}
        checked, absent = [], {}
        for message, invitation in self._invited:
            reply = by_message.get(message.metadata.message_id)
            if reply is None or reply.has_error():
                reason = "late" if reply is None else "failed"
                absent[invitation.organization] = reason
                self._listener(
                    "organization-absent",
                    {
                        "organization": invitation.organization,
                        "reason": reason,
                        "error": error_of(reply),
                    },
                )
                continue
            keys = self._notary.keys(invitation.organization, invitation.round)
            try:
                answer = check_reply(reply, invitation, self._notary.context, keys)
            except UnsignedReplyError as error:
                absent[invitation.organization] = "unsigned"
                self._listener(
                    "organization-absent",
                    {
                        "organization": invitation.organization,
                        "reason": "unsigned",
                        "error": str(error),
                    },
                )
                continue
            checked.append(self._within_norm(answer))
        return checked, absent

    def _submissions(self, round_number: int) -> dict[str, bytes]:
        names = [invitation.organization for _, invitation in self._invited]
        return self._notary.submissions(round_number, names)

    def _entries(
        self,
        checked: Iterable[CheckedReply],
        submitted: Mapping[str, bytes],
        weights: Mapping[str, float],
    ) -> list[Entry]:
        """Return one entry for each signed update: those replied, and those on the chain alone."""
        entries = [
            Entry.of_reply(reply, self._notary.context, weights.get(reply.organization, 0.0))
            for reply in checked
        ]
        replied = {entry.digest for entry in entries}
        return entries + [
            Entry.unavailable(organization, digest)
            for organization, digest in submitted.items()
            if digest not in replied
        ]

    def _aggregate(self, round_number: int, accepted: list[CheckedReply]) -> RoundAggregate:
        needed = max(self._terms.min_organizations, self._rule.minimum_contributions)
        result = aggregate_round(self._rule, self._state, round_number, accepted, needed=needed)
        if result.aggregate is None:
            self._listener(
                "round-unchanged",
                {"round": round_number, "accepted": len(accepted), "reason": result.reason},
            )
        return result

    def _within_norm(self, reply: CheckedReply) -> CheckedReply:
        if reply.verdict is not Verdict.ACCEPTED or self._terms.norm_bound == 0.0:
            return reply
        norm = self._rule.update_norm(
            self._state,
            self._round + 1,
            Contribution(reply.organization, reply.num_examples, reply.arrays or {}),
        )
        if norm <= self._terms.norm_bound:
            return reply
        return reply.rejected(
            Verdict.NORM_EXCEEDED,
            f"the update's norm is {norm:.4g}, the terms allow {self._terms.norm_bound:.4g}",
        )

    def _report(self, reply: CheckedReply) -> None:
        if reply.verdict is Verdict.ACCEPTED:
            self._listener(
                "update-accepted",
                {
                    "organization": reply.organization,
                    "commitment": reply.signed.update.commitment.hex(),
                    "examples": reply.num_examples,
                    "metrics": dict(reply.metrics),
                },
            )
        else:
            self._listener(
                "update-rejected",
                {
                    "organization": reply.organization,
                    "code": reply.verdict.name,
                    "reason": reply.reason,
                },
            )

    def _prepare(
        self,
        outcome: RoundOutcome,
        adapter: Arrays,
        record: dict[str, Any],
        openings: Mapping[str, Opening],
    ) -> RoundOutcome:
        """Store a round but for its seal; return its outcome with the stored files' digests."""
        self._archive.prepare_round(
            outcome.round,
            manifest=lambda files: replace(outcome, files=files).manifest(self._notary.task),
            openings=openings,
            record=record,
            state=self._state.to_arrays(),
            save_adapter=lambda folder: self._save_adapter(outcome.round, adapter, folder),
        )
        return RoundOutcome.from_manifest(self._archive.manifest(outcome.round))

    def _seal(self, outcome: RoundOutcome) -> None:
        seal = self._notary.seal(outcome)
        self._archive.write_seal(outcome.round, seal)
        self._receipts.update(self._notary.receipts(outcome, seal))
        self._listener("round-sealed", {"round": outcome.round, **seal})


def _uncontradicted(
    reply: CheckedReply, submitted: Mapping[str, bytes], context: TaskContext
) -> CheckedReply:
    """Reject a reply whose sender has signed something else for the round on the chain."""
    on_chain = submitted.get(reply.organization)
    digest = reply.signed.update.digest(context.domain)
    if on_chain is None or on_chain == digest:
        return reply
    return reply.rejected(
        Verdict.CONTRADICTED,
        f"signed 0x{digest.hex()[:16]}…, and on the chain 0x{on_chain.hex()[:16]}…",
    )
