"""One organization at work: checks what it is sent, evaluates, trains, keeps its own record."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from blockchain.canonical import hash_arrays
from blockchain.errors import ChainError
from blockchain.public_chain import PublicChain
from client_app.acting import ActingOrganization
from client_app.fast_unlearning import forget_set_of, forgotten_figures, recovered, unlearn
from client_app.local_training import train_share
from client_app.own_data import load_own_data
from client_app.own_ledger import Drawn, OwnLedger, Trained
from client_app.own_record import OwnRecord
from client_app.participation import Participation, Share
from client_app.request import (
    CoordinatorError,
    Request,
    check_parent,
    check_receipt,
    check_sealed,
    check_terms,
    is_ignored,
    read_request,
)
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.draw import draw
from llm.evaluation import Evaluation, evaluate, general_text_loss
from llm.factors import Arrays
from llm.records import Record
from llm.splits import OrganizationData
from llm.training import TrainingResult
from strategies import protocol
from strategies.home import cache_folder, organization_folder
from strategies.run_chain import paying_chain
from strategies.run_parts import adapter_at_scale, base_model_settings
from strategies.signed_update import SignedUpdate, TaskContext, sign_decline, sign_update

#: Seconds that the contract takes an update beyond the round's own deadline.
_SUBMISSION_SECONDS: Final = 600


class Organization(ActingOrganization):
    """One organization where it is asked to train, and at the end of a run."""

    # What the coordinator can ask for

    def train(self, content: RecordDict) -> RecordDict:
        """Take part in a round; asked again, say the same again.

        Returns
        -------
        RecordDict
            The update, what was signed for it, and the figures reported beside it.

        Raises
        ------
        ProtocolError, CoordinatorError
            If the message is malformed or disagrees with the public chain.
        ArchiveError
            If we replied already, and what we sent was erased or altered since.
        """
        request = read_request(content, self.name, self._settings)
        record = self._record(request.task)
        context = check_terms(self._chain, request.task, request.run, self._agreed)
        check_parent(self._chain, request)
        with OwnLedger(self._settings, self.name, self._account, self._chain) as ledger:
            return self._take_part(content, request, record, context, ledger)

    def _take_part(
        self,
        content: RecordDict,
        request: Request,
        record: OwnRecord,
        context: TaskContext,
        ledger: OwnLedger,
    ) -> RecordDict:
        check_receipt(self._chain, request, context, record, ledger)
        earlier = record.reply_in(request.round)
        if earlier is not None:
            return self._reply(earlier.signed, record.payload(earlier), earlier.metrics)
        record.works_by(self._settings)
        started = time.monotonic()
        participation = Participation(self._settings, self.name, self._chain, self._paying)
        participation.settle(request, record, ledger.ledger)
        training = ledger.allowed(self._data().train)
        unlearner = self._settings.first_rounds.unlearner_in(request.round)
        if unlearner is not None:
            return self._unlearn(request, record, context, ledger, training, unlearner)
        share = participation.decide(request, record, ledger.ledger, training)
        metrics = {"effort": float(share.percent), "decide-seconds": time.monotonic() - started}
        if share.declines:
            return self._decline(request, record, context, ledger, metrics)
        started = time.monotonic()
        drawn = Drawn(ledger.committed(training), share.records)
        metrics["ledger-seconds"] = time.monotonic() - started
        result = self._trained(request, record, share, metrics)
        arrays = recovered(result.arrays, content, request, self._settings, self._chain)
        return self._noted(
            request, record, context, ledger, drawn, result, arrays, result.records, metrics
        )

    def _unlearn(
        self,
        request: Request,
        record: OwnRecord,
        context: TaskContext,
        ledger: OwnLedger,
        allowed: Sequence[Record],
        unlearner: str,
    ) -> RecordDict:
        """Train the adapter to forget what we asked to have forgotten."""
        if unlearner != self.name:
            raise CoordinatorError(f"round {request.round} is for {unlearner} to unlearn in")
        data, base = self._data(), self._base()
        forgotten = forget_set_of(ledger.ledger, self._settings, data.train)
        result = unlearn(
            base,
            adapter_at_scale(request.adapter, self._settings),
            data,
            forgotten,
            allowed,
            self._settings,
            self.name,
            request.round,
            lambda step, steps, loss: record.doing("unlearning", request.round, step, steps, loss),
        )
        started = time.monotonic()
        drawn = Drawn(ledger.committed(allowed), result.retained)
        metrics = {"ledger-seconds": time.monotonic() - started, **result.metrics()}
        # How many records it was is nobody's business but the attestors' of the receipt.
        return self._noted(
            request, record, context, ledger, drawn, result, result.arrays, 1, metrics
        )

    def _noted(
        self,
        request: Request,
        record: OwnRecord,
        context: TaskContext,
        ledger: OwnLedger,
        drawn: Drawn,
        result: Trained,
        arrays: Arrays,
        examples: int,
        metrics: dict[str, float],
    ) -> RecordDict:
        """Sign an update, note it in the ledger before anybody hears of it, and reply with it."""
        signed = sign_update(
            context,
            self._account,
            self.name,
            request.round,
            hash_arrays(request.adapter),
            update_hash=hash_arrays(arrays),
            num_examples=examples,
            deadline=self._submission_deadline(),
        )
        started = time.monotonic()
        ledger.note_training(signed, request.run, drawn, result)
        self._anchor_in(request.round, ledger, record)
        metrics["ledger-seconds"] += time.monotonic() - started
        self._keep(signed, request, context, record, arrays, metrics)
        return self._reply(signed, arrays, metrics)

    def _decline(
        self,
        request: Request,
        record: OwnRecord,
        context: TaskContext,
        ledger: OwnLedger,
        metrics: dict[str, float],
    ) -> RecordDict:
        """Sign that nothing was trained; no model is loaded for it."""
        signed = sign_decline(
            context,
            self._account,
            self.name,
            request.round,
            hash_arrays(request.adapter),
            deadline=self._submission_deadline(),
        )
        started = time.monotonic()
        self._anchor_in(request.round, ledger, record)
        metrics |= {"tokens": 0.0, "ledger-seconds": time.monotonic() - started}
        self._keep(signed, request, context, record, None, metrics)
        return self._reply(signed, None, metrics)

    def _keep(
        self,
        signed: SignedUpdate,
        request: Request,
        context: TaskContext,
        record: OwnRecord,
        arrays: Arrays | None,
        metrics: Mapping[str, float],
    ) -> None:
        record.replied(signed, signed.update.digest(context.domain), arrays, metrics)
        if is_ignored(self._chain, request, record):
            self._submit(signed, record)

    def _submission_deadline(self) -> int:
        return int(time.time() + self._settings.round_deadline) + _SUBMISSION_SECONDS

    def _submit(self, signed: SignedUpdate, record: OwnRecord) -> None:
        """Put what we signed on the chain ourselves: then it cannot be left out unnoticed.

        It costs gas, hence only once a reply of ours got no receipt. A failure is kept and does
        not keep the reply itself from being sent.
        """
        try:
            outcome = self._paying().disputes.submit(signed.update, signed.signature).hash.hex()
        except ChainError as error:
            outcome = f"{type(error).__name__}: {error}"
        record.submitted(signed.update.round, outcome)

    def _anchor_in(self, round_number: int, ledger: OwnLedger, record: OwnRecord) -> None:
        interval = self._settings.anchor_interval
        if interval and round_number % interval == 0:
            self._anchor(ledger, record)

    def _anchor(self, ledger: OwnLedger, record: OwnRecord) -> None:
        """Anchor the ledger; a chain that does not take it now is asked again the next time."""
        try:
            made = ledger.anchor(self._paying())
        except ChainError as error:
            size = ledger.ledger.history.size
            record.anchored(f"{type(error).__name__}: {error}", failed_at=size)
            return
        record.anchored("anchored already" if made is None else f"{made.size} records anchored")

    def _paying(self) -> PublicChain:
        folder = organization_folder(self._settings.home_path, self.name)
        return paying_chain(self._settings, self._chain, self._account, folder)

    def _trained(
        self, request: Request, record: OwnRecord, share: Share, metrics: dict[str, float]
    ) -> TrainingResult:
        """Evaluate what was received and train from it; figures go into ``metrics``."""
        data, base = self._data(), self._base()
        started = time.monotonic()
        # The same rows in every round, so that rounds can be compared.
        hold_out = draw(
            data.validation,
            self._settings.validation_records,
            seed=self._settings.seed,
            round=0,
            organization=self.name,
        )
        before = (
            self._evaluate(
                base,
                hold_out,
                adapter_at_scale(request.adapter, self._settings),
                record,
                request.round,
            )
            if hold_out
            else None
        )
        evaluate_seconds = time.monotonic() - started

        result = train_share(
            base, request, record, share, self._settings, self.name, doing="training"
        )
        metrics |= {
            "tokens": float(result.tokens),
            "steps": float(result.steps),
            "train-seconds": result.seconds,
            "evaluate-seconds": evaluate_seconds,
            **(_evaluation_metrics("received", before) if before else {}),
        }
        if not self._settings.privacy_epsilon:
            # They are of the very records that noise is to hide.
            metrics |= {"first-loss": result.first_loss, "last-loss": result.last_loss}
        return result

    def _reply(
        self, signed: SignedUpdate, arrays: Arrays | None, metrics: Mapping[str, float]
    ) -> RecordDict:
        update, opening = signed.update, signed.opening
        reply = RecordDict(
            {
                protocol.HEADER: protocol.header_record(
                    {
                        "organization": self.name,
                        "round": update.round,
                        "num-examples": update.num_examples,
                        "commitment": update.commitment,
                        "deadline": update.deadline,
                        "signature": signed.signature,
                    }
                ),
                protocol.METRICS: MetricRecord({**metrics}),
            }
        )
        if arrays is not None:
            reply[protocol.UPDATE] = protocol.array_record(arrays)
            reply[protocol.OPENING] = ConfigRecord(
                {"update-hash": opening.update_hash, "salt": opening.salt}
            )
        return reply

    def close(self, content: RecordDict) -> RecordDict:
        """End a run: check the last receipt, evaluate base and final adapter on the test rows."""
        request = read_request(content, self.name, self._settings)
        record = self._record(request.task)
        context = check_terms(self._chain, request.task, request.run, self._agreed)
        check_sealed(self._chain, request)
        started = time.monotonic()
        with OwnLedger(self._settings, self.name, self._account, self._chain) as ledger:
            check_receipt(self._chain, request, context, record, ledger)
            Participation(self._settings, self.name, self._chain, self._paying).settle(
                request, record, ledger.ledger
            )
            if self._settings.anchor_interval:
                self._anchor(ledger, record)
        ledger_seconds = time.monotonic() - started
        data = self._data()
        closed = protocol.header_record(
            {"organization": self.name, "round": request.round, "domain": data.domain}
        )
        if not request.evaluated:
            return RecordDict({protocol.HEADER: closed, protocol.METRICS: MetricRecord({})})
        base = self._base()
        started = time.monotonic()
        adapter = adapter_at_scale(request.adapter, self._settings)
        untouched = self._evaluate(base, data.test, None, record, request.round)
        final = self._evaluate(base, data.test, adapter, record, request.round)
        metrics = {
            **_evaluation_metrics("base", untouched),
            **_evaluation_metrics("final", final),
            "base-general-loss": general_text_loss(base),
            "final-general-loss": general_text_loss(base, adapter),
            "rows": float(len(data.train)),
            "test-rows": float(len(data.test)),
            "evaluate-seconds": time.monotonic() - started,
            "ledger-seconds": ledger_seconds,
            **self._forgotten(base, adapter, data),
        }
        record.closed(request.round, metrics)
        return RecordDict({protocol.HEADER: closed, protocol.METRICS: MetricRecord({**metrics})})

    # Parts

    def _forgotten(
        self, base: BaseModel, adapter: LoraAdapter, data: OrganizationData
    ) -> dict[str, float]:
        """Measure the final adapter on what we had the run unlearn, if anything."""
        if self.name not in self._settings.first_rounds.unlearners:
            return {}
        with OwnLedger(self._settings, self.name, self._account, self._chain) as ledger:
            forgotten = forget_set_of(ledger.ledger, self._settings, data.train)
        return forgotten_figures(base, adapter, data, forgotten, self._settings, self.name)

    def _evaluate(
        self,
        base: BaseModel,
        records: Sequence[Record],
        adapter: LoraAdapter | None,
        record: OwnRecord,
        round_number: int,
    ) -> Evaluation:
        return evaluate(
            base,
            records,
            adapter,
            max_tokens=self._settings.max_tokens,
            progress=lambda done, total: record.doing("evaluating", round_number, done, total),
        )

    def _data(self) -> OrganizationData:
        return load_own_data(self._settings, self.name, cache_folder(self._settings.home_path))

    def _base(self) -> BaseModel:
        return load_base_model(
            base_model_settings(self._settings), cache_folder(self._settings.home_path)
        )

    def _record(self, task: bytes) -> OwnRecord:
        return OwnRecord(organization_folder(self._settings.home_path, self.name), task)


def _evaluation_metrics(prefix: str, evaluation: Evaluation) -> dict[str, float]:
    metrics = {f"{prefix}-loss": evaluation.loss}
    if evaluation.accuracy is not None:
        metrics[f"{prefix}-accuracy"] = evaluation.accuracy
    return metrics
