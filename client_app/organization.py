"""One organization at work: checks what it is sent, evaluates, trains, keeps its own record."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from blockchain.canonical import hash_arrays
from blockchain.merkle import Leaf, organization_id
from blockchain.public_chain import Phase, PublicChain
from client_app.own_data import load_own_data
from client_app.own_record import OwnRecord
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, base_model_path, linear_shapes, load_base_model
from llm.draw import draw
from llm.evaluation import Evaluation, evaluate, general_text_loss
from llm.factors import A_SUFFIX, Arrays, Float32Array, arrays_from_adapter
from llm.records import Record
from llm.splits import OrganizationData
from llm.training import TrainedPart, train, training_seed
from strategies import protocol
from strategies.aggregation import AggregationRule
from strategies.protocol import ProtocolError, RoundReceipt
from strategies.run_parts import (
    adapter_at_scale,
    aggregation_rule,
    base_model_settings,
    target_of,
    training_settings,
)
from strategies.settings import RunSettings, cache_folder

#: No stacked adapter grows beyond this; a message that says so is refused before it costs memory.
MAX_ADAPTER_RANK = 65_536


class CoordinatorError(RuntimeError):
    """What the coordinator sent does not agree with the public chain or with our own record."""


@dataclass(frozen=True)
class _Request:
    """A coordinator's message, read strictly."""

    task: bytes
    round: int
    rank: int
    adapter: Arrays
    receipt: RoundReceipt | None


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
        request = self._read(content)
        record = self._record(request.task)
        self._check_parent(request)
        self._check_receipt(request, record)
        data = self._data()
        base = self._base()
        received = adapter_at_scale(request.adapter, self._settings)

        started = time.monotonic()
        hold_out = data.validation[: self._settings.validation_records]
        before = (
            self._evaluate(base, hold_out, received, record, request.round) if hold_out else None
        )
        evaluate_seconds = time.monotonic() - started

        rule = self._rule()
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
        request = self._read(content)
        record = self._record(request.task)
        self._check_sealed(request)
        self._check_receipt(request, record)
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

    def _read(self, content: RecordDict) -> _Request:
        header = content.config_records.get(protocol.HEADER)
        sent = content.array_records.get(protocol.ADAPTER)
        if header is None or sent is None:
            raise ProtocolError("a message without header or adapter")
        adapter = self._complete(sent)
        stated = protocol.digest(header, "adapter-hash")
        computed = hash_arrays(adapter)
        if computed != stated:
            raise CoordinatorError(
                f"the received adapter hashes to 0x{computed.hex()}, the message says "
                f"0x{stated.hex()}"
            )
        rank = protocol.integer(header, "rank")
        if rank != self._settings.rank_of(self.name):
            raise CoordinatorError(
                f"the message asks for rank {rank}, the terms say "
                f"{self._settings.rank_of(self.name)}"
            )
        return _Request(
            task=protocol.digest(header, "task"),
            round=protocol.integer(header, "round"),
            rank=rank,
            adapter=adapter,
            receipt=RoundReceipt.from_header(header),
        )

    def _complete(self, sent: ArrayRecord) -> Arrays:
        """Return the whole adapter: what was sent, and the rest from the seed."""
        rule = self._rule()
        arrays = dict(_initial_arrays(rule))
        for name, array in sent.items():
            if name not in arrays:
                raise ProtocolError(f"the adapter holds {name[:120]!r}, which was not agreed")
            arrays[name] = protocol.decode_array(array, _agreed_shape(name, array, arrays[name]))
        return arrays

    def _check_parent(self, request: _Request) -> None:
        on_chain = self._chain.round(request.task, request.round)
        if on_chain.phase is not Phase.OPEN:
            raise CoordinatorError(
                f"round {request.round} is {on_chain.phase.name.lower()} on chain, expected open"
            )
        digest = hash_arrays(request.adapter)
        if on_chain.parent_adapter != digest:
            raise CoordinatorError(
                f"round {request.round} opened on adapter 0x{on_chain.parent_adapter.hex()}, "
                f"the coordinator sent 0x{digest.hex()}"
            )

    def _check_sealed(self, request: _Request) -> None:
        on_chain = self._chain.round(request.task, request.round)
        digest = hash_arrays(request.adapter)
        if on_chain.phase is not Phase.SEALED or on_chain.adapter_hash != digest:
            raise CoordinatorError(
                f"round {request.round} is {on_chain.phase.name.lower()} on chain with adapter "
                f"0x{on_chain.adapter_hash.hex()}, the coordinator sent 0x{digest.hex()} as final"
            )

    def _check_receipt(self, request: _Request, record: OwnRecord) -> None:
        """Hold the receipt for our last counted reply against the chain and our own record."""
        receipt = request.receipt
        if receipt is None:
            return
        reply = record.reply_in(receipt.round)
        if reply is None or reply.update_hash != receipt.update_hash:
            raise CoordinatorError(
                f"the receipt for round {receipt.round} is not for an update that we sent"
            )
        leaf = Leaf(
            task=request.task,
            round=receipt.round,
            index=receipt.index,
            organization=organization_id(self.name),
            verdict=receipt.verdict,
            update_hash=receipt.update_hash,
        )
        if not self._chain.is_included(leaf, receipt.proof):
            raise CoordinatorError(
                f"our update of round {receipt.round} is not under the root sealed on chain"
            )
        record.verified(receipt)

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

    def _rule(self) -> AggregationRule:
        return _rule(self._settings, self._cache)

    def _record(self, task: bytes) -> OwnRecord:
        return OwnRecord(self._settings.home_path / "organizations" / self.name, task)


@lru_cache(maxsize=1)
def _rule(settings: RunSettings, cache: Path) -> AggregationRule:
    path = base_model_path(base_model_settings(settings), cache)
    return aggregation_rule(settings, linear_shapes(path, target_of(settings)))


@lru_cache(maxsize=1)
def _initial_arrays(rule: AggregationRule) -> Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]:
    return arrays_from_adapter(rule.adapter(rule.initial_state()))


def _agreed_shape(name: str, sent: Array, initial: Float32Array) -> tuple[int, ...]:
    """Return the shape an array of the adapter may have: under stacking rules its rank grows."""
    rank_axis = 0 if name.endswith(A_SUFFIX) else 1
    shape = list(initial.shape)
    if len(sent.shape) == 2 and 1 <= sent.shape[rank_axis] <= MAX_ADAPTER_RANK:
        shape[rank_axis] = int(sent.shape[rank_axis])
    return tuple(shape)


def _evaluation_metrics(prefix: str, evaluation: Evaluation) -> dict[str, float]:
    metrics = {f"{prefix}-loss": evaluation.loss}
    if evaluation.accuracy is not None:
        metrics[f"{prefix}-accuracy"] = evaluation.accuracy
    return metrics
