"""The Flower strategy: open a round on chain, invite, check, aggregate, store, seal."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from blockchain.canonical import hash_arrays
from llm.factors import Arrays
from strategies import protocol
from strategies.aggregation import AggregationRule, AggregationState
from strategies.attesting import Attesting
from strategies.replies import CheckedReply, Invitation, Verdict
from strategies.reward_statement import write_statements
from strategies.round_aggregate import RoundAggregate, aggregate_round
from strategies.round_notary import RoundNotary
from strategies.round_outcome import Entry, RoundOutcome
from strategies.round_replies import check_replies, report, uncontradicted, within_norm
from strategies.round_terms import Participant, RoundTerms
from strategies.run_archive import RunArchive
from strategies.run_progress import Listener, RunProgress
from strategies.stopped_rounds import StoppedForRequestsError, UnlearningRefusedError


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
    start : AggregationState, optional
        The state that the run starts from; by default the rule's initial one.
    arrived : callable, optional
        Given a round, whose replies came in the round that it makes again, or ``None`` where it
        makes none again. Nobody else is invited then, and all of them have to reply.
    gone_on_from : callable, optional
        Returns the adapter of the round that the run goes on from: what recovery is held against.
    waiting : callable, optional
        Looked at before each round: ids of requests for which the run is to stop there.
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
        start: AggregationState | None = None,
        arrived: Callable[[int], frozenset[str] | None] = lambda _: None,
        gone_on_from: Callable[[], Arrays] = dict,
        waiting: Callable[[], frozenset[bytes]] = frozenset,
    ) -> None:
        self._rule = rule
        self._gone_on_from = gone_on_from
        self._arrived = arrived
        self._waiting = waiting
        self._archive = archive
        self._notary = notary
        self._participants: list[Participant] = []
        self._terms = terms
        self._listener = listener
        self._invited: list[tuple[Message, Invitation]] = []
        self._opened = 0.0
        self._attesting = Attesting(
            archive=archive,
            notary=notary,
            exact=rule.tolerance == 0.0,
            deadline=terms.deadline,
            listener=listener,
        )
        self._progress = RunProgress(
            rule=rule,
            start=rule.initial_state() if start is None else start,
            archive=archive,
            notary=notary,
            attesting=self._attesting,
            rewards=terms.rewards,
            save_adapter=save_adapter,
            listener=listener,
        )

    # Before the first round

    def resume(self) -> int:
        """Begin, or take up the last round on disk; see :meth:`RunProgress.resume`."""
        return self._progress.resume()

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
        """Open the round on chain and invite every organization.

        Raises
        ------
        StoppedForRequestsError
            If requests wait that the run is to stop for.
        """
        if requests := self._waiting():
            raise StoppedForRequestsError(requests)
        round_number, adapter = self._progress.open_next(grid)
        parent = hash_arrays(adapter)
        self._opened = time.monotonic()
        self._listener("round-opened", {"round": round_number, "adapter": parent.hex()})
        travelling = protocol.array_record(self._progress.travelling_arrays(adapter))
        direction = self._direction(round_number)
        self._invited = [
            (
                self._message(p, protocol.TRAIN, round_number, travelling, parent, None, direction),
                Invitation(
                    organization=p.organization,
                    node=p.node,
                    round=round_number,
                    parent=parent,
                    shapes=[self._rule.expected_shapes(round_number, r) for r in p.ranks],
                    max_examples=self._terms.max_examples,
                ),
            )
            for p in self._wanted(round_number)
        ]
        return [message for message, _ in self._invited]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the replies, aggregate what holds, store the round, seal it."""
        round_number = self._progress.round + 1
        waited = time.monotonic() - self._opened
        checked, absent = self._checked(replies)
        if absent and self._arrived(round_number) is not None:
            raise UnlearningRefusedError(
                round_number, absent, self._terms.first.unlearner_in(round_number)
            )
        submitted = self._submissions(round_number)
        checked = [uncontradicted(reply, submitted, self._notary.context) for reply in checked]
        for reply in checked:
            report(reply, self._listener)
        self._require_unlearned(round_number, checked)
        accepted = [reply for reply in checked if reply.verdict is Verdict.ACCEPTED]

        started = time.monotonic()
        result = self._aggregate(round_number, checked)
        aggregate, adapter = result.aggregate, result.adapter
        checked = [result.judged(reply) for reply in checked]
        outcome = RoundOutcome.of(
            round_number=round_number,
            parent_round=self._progress.parent_round,
            rule=self._rule.name,
            parent=hash_arrays(self.adapter_arrays()),
            state=result.state,
            adapter=adapter,
            rewards=self._progress.rewards,
            entries=self._entries(
                checked, submitted, {} if aggregate is None else aggregate.weights
            ),
            absent=absent,
        )
        for reply in accepted:
            self._archive.store_update(reply.arrays or {})
        self._progress.finish(
            outcome,
            result.state,
            adapter,
            openings={reply.organization: reply.signed.opening for reply in accepted},
            record={
                "seconds": {"waited": waited, "aggregated": time.monotonic() - started},
                "reasons": {r.organization: r.reason for r in checked if r.reason},
                "declined": [r.organization for r in checked if r.verdict is Verdict.DECLINED],
                "absent": absent,
                "metrics": {r.organization: dict(r.metrics) for r in checked},
                "diagnostics": {} if aggregate is None else aggregate.diagnostics,
                "aggregation_error": (
                    aggregate.error.total if aggregate is not None and aggregate.error else 0.0
                ),
            },
        )
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

    # After the last round

    def close_rewards(self, grid: Grid) -> None:
        """Have the last round attested, seal what it earned, and ask again for those missed."""
        self._progress.close_rewards(grid)
        self._progress.attest_missed(grid)

    @property
    def last_round(self) -> int:
        """The last finished round."""
        return self._progress.round

    def adapter_arrays(self) -> Arrays:
        """Return the global adapter under its PEFT names."""
        return self._progress.adapter_arrays()

    def closing_messages(self, *, evaluated: bool = True) -> list[Message]:
        """Return the messages that end the run: the last receipts and the final adapter.

        Parameters
        ----------
        evaluated : bool
            Whether organizations evaluate the adapter: not one that another run replaces at once.
        """
        adapter = self.adapter_arrays()
        travelling = protocol.array_record(self._progress.travelling_arrays(adapter))
        return [
            self._message(
                p,
                protocol.CLOSING,
                self._progress.parent_round,
                travelling,
                hash_arrays(adapter),
                {} if evaluated else {protocol.UNEVALUATED: True},
            )
            for p in self._participants
        ]

    # Parts

    def _wanted(self, round_number: int) -> list[Participant]:
        """Return who is invited to a round."""
        arrived = self._arrived(round_number)
        if arrived is None:
            return [p for p in self._participants if p.organization not in self._terms.leavers]
        return [p for p in self._participants if p.organization in arrived]

    def _require_unlearned(self, round_number: int, checked: Iterable[CheckedReply]) -> None:
        """Make sure that whoever was to unlearn in a round did, with an update that holds."""
        unlearner = self._terms.first.unlearner_in(round_number)
        if unlearner is None:
            return
        bad = {r.organization: r.verdict.name for r in checked if r.verdict is not Verdict.ACCEPTED}
        if bad:
            raise UnlearningRefusedError(round_number, bad, unlearner)

    def _direction(self, round_number: int) -> dict[str, ArrayRecord]:
        """Return the adapters before and after the unlearning, for a round of recovery."""
        if not self._terms.first.recovers_in(round_number):
            return {}
        after = self._archive.adapter_arrays(self._terms.first.last_unlearning)
        return {
            key: protocol.array_record(self._progress.travelling_arrays(adapter))
            for key, adapter in ((protocol.BEFORE, self._gone_on_from()), (protocol.AFTER, after))
        }

    def _message(
        self,
        participant: Participant,
        kind: str,
        round_number: int,
        travelling: ArrayRecord,
        adapter_hash: bytes,
        more: Mapping[str, Any] | None = None,
        records: Mapping[str, ArrayRecord] | None = None,
    ) -> Message:
        receipt = self._progress.receipts.get(participant.organization)
        header = protocol.header_record(
            {
                "organization": participant.organization,
                "task": self._notary.task,
                "run": self._archive.name,
                "round": round_number,
                "rank": participant.rank,
                "adapter-hash": adapter_hash,
                protocol.REWARDS: write_statements(
                    self._progress.reward_statements(participant.organization)
                ),
                **(receipt.to_header() if receipt else {}),
                **(more or {}),
            }
        )
        return Message(
            content=RecordDict(
                {protocol.ADAPTER: travelling, protocol.HEADER: header, **(records or {})}
            ),
            message_type=kind,
            dst_node_id=participant.node,
            group_id=str(round_number),
            ttl=self._terms.deadline,
        )

    def _checked(self, replies: Iterable[Message]) -> tuple[list[CheckedReply], dict[str, str]]:
        """Return the checked replies, sorted by organization, and who is absent and why."""
        checked, absent = check_replies(replies, self._invited, self._notary, self._listener)
        norm = partial(self._rule.update_norm, self._progress.state, self._progress.round + 1)
        return [within_norm(one, norm, self._terms.norm_bound) for one in checked], absent

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

    def _aggregate(self, round_number: int, checked: list[CheckedReply]) -> RoundAggregate:
        needed = max(
            # Where one unlearns, nobody else is asked.
            1 if self._terms.first.unlearner_in(round_number) else self._terms.min_organizations,
            self._rule.minimum_contributions,
        )
        result = aggregate_round(
            self._rule, self._progress.state, round_number, checked, needed=needed
        )
        if result.aggregate is None:
            verdicts = [reply.verdict for reply in checked]
            self._listener(
                "round-unchanged",
                {
                    "round": round_number,
                    "accepted": verdicts.count(Verdict.ACCEPTED),
                    "declined": verdicts.count(Verdict.DECLINED),
                    "reason": result.reason,
                },
            )
        return result
