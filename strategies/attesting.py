"""The coordinator's side of attestations: asks attestors, gathers what they sign, puts it on chain.

One attestor leads, another one each round: it scores the round and says so; the others recompute,
compare with their own and sign the same. Where the one that leads fails, the next one leads.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from blockchain.canonical import canonical_json
from blockchain.merkle import organization_id
from blockchain.model_update import Attestation
from blockchain.typed_data import check_signer
from llm.json_nesting import check_nesting
from strategies import protocol
from strategies.protocol import ProtocolError
from strategies.reply_errors import error_of
from strategies.round_evidence import RoundEvidence
from strategies.round_notary import RoundNotary
from strategies.round_outcome import RoundOutcome
from strategies.round_terms import Participant
from strategies.run_archive import RunArchive
from strategies.scores import ScoreTable

#: Asks attestors: given the round and what is sent to each by name, returns what each answered, or
#: why it did not.
Ask = Callable[[int, Mapping[str, RecordDict]], Mapping[str, RecordDict | str]]


@dataclass(frozen=True)
class _Word:
    """What one attestor says: the scores it signed, and its signature."""

    scores: ScoreTable
    signature: bytes


class Attesting:
    """Attestations of one run's rounds.

    Parameters
    ----------
    archive : RunArchive
        Where each attestation is stored before it is sent.
    notary : RoundNotary
        Puts them on the public chain.
    exact : bool
        Whether every processor computes the rule's state alike.
    deadline : float
        Seconds that an attestor has.
    listener : callable
        Told of every event.
    """

    def __init__(
        self,
        *,
        archive: RunArchive,
        notary: RoundNotary,
        exact: bool,
        deadline: float,
        listener: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._archive = archive
        self._notary = notary
        self._exact = exact
        self._deadline = deadline
        self._listener = listener
        self._attestors: list[Participant] = []

    def admit(self, attestors: Iterable[Participant]) -> None:
        """Say who is asked from now on."""
        self._attestors = sorted(attestors, key=lambda p: p.organization)

    def attest(self, round_number: int, grid: Grid) -> ScoreTable | None:
        """Have a sealed round attested by attestors on Flower's nodes: see `attest_by`."""
        return self.attest_by(round_number, partial(self._over_flower, grid))

    def attest_by(self, round_number: int, ask: Ask) -> ScoreTable | None:
        """Have a sealed round attested; one that was is taken up.

        Parameters
        ----------
        round_number : int
            The sealed round.
        ask : callable
            See `Ask`.

        Returns
        -------
        ScoreTable or None
            What the attestors agreed on; ``None`` where too few of them signed, with an event that
            says why. The round stays sealed, and pays nothing.

        Raises
        ------
        ChainError
            If the attestation does not land.
        """
        if not self._attestors:
            return None
        outcome = RoundOutcome.from_manifest(self._archive.manifest(round_number))
        stored = self._archive.attestation(round_number)
        if stored is not None and stored.landed is not None:
            return stored.scores
        if stored is None:
            started = time.monotonic()
            words = self._asked(outcome, ask)
            self._listener(
                "attestors-answered",
                {"round": round_number, "seconds": time.monotonic() - started},
            )
            needed = self._notary.attestors_needed()
            if len(words) < needed:
                self._listener(
                    "round-unattested",
                    {"round": round_number, "signed": sorted(words), "needed": needed},
                )
                return None
            scores = next(iter(words.values())).scores
            signatures = {name: words[name].signature for name in sorted(words)}
            # Before it is sent: once it landed, these are the scores, whatever is asked again.
            self._archive.write_attestation(round_number, scores, signatures)
        else:
            scores, signatures = stored.scores, dict(stored.signatures)
        landed = self._notary.attest(outcome, scores, signatures)
        self._archive.write_attestation(round_number, scores, signatures, landed)
        self._listener(
            "round-attested",
            {"round": round_number, "scores": scores.scores, "by": sorted(signatures), **landed},
        )
        return scores

    def _asked(self, outcome: RoundOutcome, ask: Ask) -> dict[str, _Word]:
        """Ask the attestors, the one that leads first; return who signed the same scores."""
        evidence = RoundEvidence.of_archive(self._archive, outcome.round, exact=self._exact)
        records = evidence.to_records(self._notary.task)
        # Each leads in turn, so that no one's processor decides for all.
        turn = outcome.round % max(1, len(self._attestors))
        waiting = self._attestors[turn:] + self._attestors[:turn]
        while waiting:
            lead, *waiting = waiting
            first = self._answers(outcome, ask, [lead], records, None)
            if not first:
                continue
            proposed = first[lead.organization].scores
            return first | self._answers(outcome, ask, waiting, records, proposed)
        return {}

    def _answers(
        self,
        outcome: RoundOutcome,
        ask: Ask,
        attestors: list[Participant],
        records: Mapping[str, Any],
        proposed: ScoreTable | None,
    ) -> dict[str, _Word]:
        contents = {
            attestor.organization: self._content(outcome.round, attestor, records, proposed)
            for attestor in attestors
        }
        answers = ask(outcome.round, contents) if contents else {}
        words = {}
        for name, answer in answers.items():
            if isinstance(answer, str):
                self._refused(outcome.round, name, answer)
                continue
            try:
                words[name] = self._word(answer, name, outcome, proposed)
            except ValueError as error:
                self._refused(outcome.round, name, str(error))
        return words

    def _over_flower(
        self, grid: Grid, round_number: int, contents: Mapping[str, RecordDict]
    ) -> dict[str, RecordDict | str]:
        nodes = {attestor.organization: attestor.node for attestor in self._attestors}
        messages = {
            name: Message(
                content=content,
                message_type=protocol.ATTEST,
                dst_node_id=nodes[name],
                group_id=str(round_number),
                ttl=self._deadline,
            )
            for name, content in contents.items()
        }
        replies = {
            reply.metadata.reply_to_message_id: reply
            for reply in grid.send_and_receive(list(messages.values()), timeout=self._deadline)
        }
        answers: dict[str, RecordDict | str] = {}
        for name, message in messages.items():
            reply = replies.get(message.metadata.message_id)
            answers[name] = error_of(reply) if reply is None or reply.has_error() else reply.content
        return answers

    def _content(
        self,
        round_number: int,
        attestor: Participant,
        records: Mapping[str, Any],
        proposed: ScoreTable | None,
    ) -> RecordDict:
        entries: dict[str, Any] = {
            "organization": attestor.organization,
            "task": self._notary.task,
            "run": self._archive.name,
            "round": round_number,
        }
        if proposed is not None:
            entries["proposed-scores"] = canonical_json(proposed.to_json())
        return RecordDict({protocol.HEADER: protocol.header_record(entries), **records})

    def _word(
        self, content: RecordDict, name: str, outcome: RoundOutcome, proposed: ScoreTable | None
    ) -> _Word:
        """Read what an attestor says, and hold its signature against its key.

        Raises
        ------
        ValueError
            If it is malformed, of another round, or not signed by it.
        """
        header = content.config_records.get(protocol.HEADER)
        if header is None:
            raise ProtocolError("an answer without a header")
        scores = read_scores(protocol.data(header, "scores"))
        signature = protocol.signature(header, "signature")
        if (scores.task, scores.round) != (self._notary.task, outcome.round):
            raise ProtocolError("scores of another task or round")
        if proposed is not None and scores != proposed:
            raise ProtocolError("signed other scores than were proposed")
        digest = attestation_of(outcome, self._notary.task, name, scores).digest(
            self._notary.context.domain
        )
        check_signer(digest, signature, self._notary.key_of(name))
        return _Word(scores, signature)

    def _refused(self, round_number: int, name: str, reason: str) -> None:
        self._listener(
            "attestor-refused", {"round": round_number, "organization": name, "reason": reason}
        )


def attestation_of(
    outcome: RoundOutcome, task: bytes, organization: str, scores: ScoreTable
) -> Attestation:
    """Return what an attestor signs for a round."""
    seal = outcome.seal(task)
    return Attestation(
        task=task,
        round=outcome.round,
        organization=organization_id(organization),
        updates_root=seal.updates_root,
        adapter=seal.adapter_hash,
        record=seal.record,
        scores=scores.hash(),
    )


def read_scores(content: bytes) -> ScoreTable:
    """Read a score table from a message.

    Raises
    ------
    ValueError
        If it is none.
    """
    text = content.decode("utf-8")
    check_nesting(text)
    return ScoreTable.from_json(json.loads(text))
