"""One organization at work: checks what it is sent, evaluates, trains, keeps its own record."""

import time
from collections.abc import Sequence

from flwr.app import MetricRecord, RecordDict

from blockchain.canonical import hash_arrays
from blockchain.public_chain import PublicChain
from client_app.own_data import load_own_data
from client_app.own_record import OwnRecord
from client_app.request import check_parent, check_receipt, check_sealed, read_request
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.draw import draw
from llm.evaluation import Evaluation, evaluate, general_text_loss
from llm.factors import arrays_from_adapter
from llm.records import Record
from llm.splits import OrganizationData
from llm.training import TrainedPart, train, training_seed
from strategies import protocol
from strategies.home import cache_folder
from strategies.run_parts import (
    adapter_at_scale,
    agreed_rule,
    base_model_settings,
    training_settings,
)
from strategies.settings import RunSettings


class Organization:
    """One organization in one process.

    Parameters
    ----------
    name : str
        Its name.
    settings : RunSettings
        The run's settings.
    chain : PublicChain
        A connection that can read.
    """

    def __init__(self, name: str, settings: RunSettings, chain: PublicChain) -> None:
        self.name = name
        self._settings = settings
        self._chain = chain
        self._cache = cache_folder(settings.home_path)

    # What the coordinator can ask for

    def train(self, content: RecordDict) -> RecordDict:
        """Take part in a round.

        Returns
        -------
        RecordDict
            The update, its hash and the figures reported beside it.

        Raises
        ------
        ProtocolError, CoordinatorError
            If the message is malformed or disagrees with the public chain.
        """
        request = read_request(content, self.name, self._settings)
        record = self._record(request.task)
        check_parent(self._chain, request)
        check_receipt(self._chain, request, self.name, record)
        data = self._data()
        base = self._base()
        received = adapter_at_scale(request.adapter, self._settings)

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
            self._evaluate(base, hold_out, received, record, request.round) if hold_out else None
        )
        evaluate_seconds = time.monotonic() - started

        rule = agreed_rule(self._settings)
        plan = rule.plan(request.round, request.rank)
        pair = (
            adapter_at_scale(
                arrays_from_adapter(rule.initial_pair(request.round, self.name, request.rank)),
                self._settings,
            )
            if plan.on_top
            else None
        )
        result = train(
            base,
            draw(
                data.train,
                self._settings.records_per_round,
                seed=self._settings.seed,
                round=request.round,
                organization=self.name,
            ),
            received,
            TrainedPart(plan.train_a, plan.train_b, plan.rank),
            training_settings(self._settings),
            seed=training_seed(str(self._settings.seed), request.round, self.name),
            on_top=pair,
            progress=lambda step, steps, loss: record.doing(
                "training", request.round, step, steps, loss
            ),
        )
        digest = hash_arrays(result.arrays)
        metrics = {
            "tokens": float(result.tokens),
            "steps": float(result.steps),
            "first-loss": result.first_loss,
            "last-loss": result.last_loss,
            "train-seconds": result.seconds,
            "evaluate-seconds": evaluate_seconds,
            **(_evaluation_metrics("received", before) if before else {}),
        }
        record.trained(request.round, digest, result.records, metrics)
        return RecordDict(
            {
                protocol.UPDATE: protocol.array_record(result.arrays),
                protocol.HEADER: protocol.header_record(
                    {
                        "organization": self.name,
                        "round": request.round,
                        "num-examples": result.records,
                        "update-hash": digest,
                    }
                ),
                protocol.METRICS: MetricRecord({**metrics}),
            }
        )

    def close(self, content: RecordDict) -> RecordDict:
        """End a run: check the last receipt, evaluate base and final adapter on the test rows."""
        request = read_request(content, self.name, self._settings)
        record = self._record(request.task)
        check_sealed(self._chain, request)
        check_receipt(self._chain, request, self.name, record)
        data = self._data()
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
        }
        record.closed(request.round, metrics)
        return RecordDict(
            {
                protocol.HEADER: protocol.header_record(
                    {
                        "organization": self.name,
                        "round": request.round,
                        "domain": data.domain,
                    }
                ),
                protocol.METRICS: MetricRecord({**metrics}),
            }
        )

    # Parts

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
        return load_own_data(self._settings, self.name, self._cache)

    def _base(self) -> BaseModel:
        return load_base_model(base_model_settings(self._settings), self._cache)

    def _record(self, task: bytes) -> OwnRecord:
        return OwnRecord(self._settings.home_path / "organizations" / self.name, task)


def _evaluation_metrics(prefix: str, evaluation: Evaluation) -> dict[str, float]:
    metrics = {f"{prefix}-loss": evaluation.loss}
    if evaluation.accuracy is not None:
        metrics[f"{prefix}-accuracy"] = evaluation.accuracy
    return metrics
