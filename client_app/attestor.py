"""An attestor at work: makes a round again, scores it, and signs what it found."""

import itertools
import time

from flwr.app import MetricRecord, RecordDict

from blockchain.canonical import canonical_json
from blockchain.typed_data import sign_digest
from client_app.acting import ActingOrganization
from client_app.own_record import OwnRecord
from client_app.request import CoordinatorError, check_terms
from llm.factors import Arrays
from strategies import protocol
from strategies.attesting import attestation_of, read_scores
from strategies.contributions import (
    Loss,
    ScoredRound,
    ScoreLimits,
    first_order,
    leave_one_out,
    score_table,
)
from strategies.home import cache_folder, organization_folder
from strategies.protocol import ProtocolError
from strategies.public_validation import public_validation_set
from strategies.recomputation import RecomputedRound, recompute
from strategies.rewards import RewardTerms
from strategies.round_evidence import RoundEvidence
from strategies.round_outcome import RoundOutcome
from strategies.run_parts import agreed_rule
from strategies.scores import ScoreTable, agrees, micro_nats

#: Stands for the validation set's hash where contributions are not scored.
_NO_VALIDATION = bytes(32)


class Attestor(ActingOrganization):
    """One organization as an attestor."""

    def attest(self, content: RecordDict) -> RecordDict:
        """Make a sealed round again, score it, and sign: its own scores, or near enough proposed.

        Returns
        -------
        RecordDict
            The scores, the signature over them and the round, and the seconds it took.

        Raises
        ------
        ProtocolError, CoordinatorError, EvidenceError
            If the message is malformed, the round cannot be made again from it, or the scores
            proposed are further from our own than the terms allow: then nothing is signed.
        """
        started = time.monotonic()
        header = content.config_records.get(protocol.HEADER)
        if header is None:
            raise ProtocolError("a message without a header")
        if self.name not in self._agreed.attestor_names:
            raise CoordinatorError(f"{self.name} is no attestor by the terms")
        task, run = protocol.digest(header, "task"), protocol.text(header, "run")
        context = check_terms(self._chain, task, run, self._agreed)
        evidence = RoundEvidence.from_records(content)
        made = recompute(
            evidence,
            agreed_rule(self._settings),
            self._chain,
            context,
            RewardTerms.of(self._settings),
            self._settings.kept_rounds,
            () if self._settings.isolation else self._settings.leaver_names,
        )
        scores = self._scored(evidence.outcome, made, task)
        if "proposed-scores" in header:
            scores = self._near_enough(scores, protocol.data(header, "proposed-scores"))
        attestation = attestation_of(evidence.outcome, task, self.name, scores)
        signature = sign_digest(attestation.digest(context.domain), self._account)
        return RecordDict(
            {
                protocol.HEADER: protocol.header_record(
                    {"scores": canonical_json(scores.to_json()), "signature": signature}
                ),
                protocol.METRICS: MetricRecord({"attest-seconds": time.monotonic() - started}),
            }
        )

    def _scored(self, outcome: RoundOutcome, made: RecomputedRound, task: bytes) -> ScoreTable:
        """Score a round on the public validation set; all zero where there is none."""
        settings = self._settings
        validation = public_validation_set(settings, cache_folder(self._settings.home_path))
        found: dict[str, int] = {}
        if validation is not None and made.contributions:
            # Loads torch, most of a process's start: a round that only seals rewards needs none.
            from strategies.validation_loss import (  # noqa: PLC0415
                loss_gradient,
                scoring_base,
                validation_loss,
            )

            base = scoring_base(settings, cache_folder(self._settings.home_path))
            limits = ScoreLimits.of(settings)
            scored = ScoredRound(
                agreed_rule(settings), made.state, outcome.round, made.contributions
            )
            if settings.score_method == "first-order":
                gradient = loss_gradient(base, validation.records, settings)
                found = first_order(scored, gradient, limits)
            else:
                with validation_loss(base, validation.records, settings) as loss:
                    found = leave_one_out(scored, self._shown(loss, scored, task), limits)
        return score_table(
            found,
            settings.organization_names,
            task=task,
            round=outcome.round,
            validation=_NO_VALIDATION if validation is None else validation.hash(),
            method=settings.score_method,
        )

    def _shown(self, loss: Loss, scored: ScoredRound, task: bytes) -> Loss:
        """Return the same loss, which says how far the scoring is."""
        folder = organization_folder(self._settings.home_path, self.name)
        record = OwnRecord(folder, task)
        # Each update is left out and, where that costs something, silenced; and once none is.
        most, count = 2 * len(scored.accepted) + 1, itertools.count(1)

        def shown(adapter: Arrays) -> float:
            value = loss(adapter)
            record.doing("attesting", scored.round, next(count), most)
            return value

        return shown

    def _near_enough(self, own: ScoreTable, content: bytes) -> ScoreTable:
        """Return the scores proposed, if they are ours as far as processors differ."""
        try:
            proposed = read_scores(content)
        except ValueError as error:
            raise ProtocolError(f"proposed-scores: {error}") from error
        reasons = agrees(own, proposed, micro_nats(self._settings.score_tolerance))
        if reasons:
            raise CoordinatorError(f"the scores proposed are not ours: {reasons[0]}")
        return proposed
