"""What the same process computed before, of which no experiment takes again what it shares."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.local_update import local_update
from blockchain.canonical import hash_arrays
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.evaluation import Evaluation, evaluate
from llm.factors import Arrays
from llm.records import Record
from llm.training import TrainingResult
from strategies.aggregation import AggregationRule
from strategies.run_parts import training_settings
from strategies.settings import RunSettings


@dataclass
class Before:
    """Trainings and evaluations, each under a hash of all that it depends on.

    Parameters
    ----------
    trainings : dict
        First rounds, which experiments of one seed have in common: whoever attacks, and by any
        rule that trains the same.
    evaluations : dict
        Of an adapter's rows, or the base's, which experiments of one seed have in common; and an
        attack asks once more what the last round was evaluated on.
    """

    trainings: dict[str, TrainingResult] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    def trained(
        self,
        base: BaseModel,
        rule: AggregationRule,
        received: Arrays,
        number: int,
        organization: str,
        records: Sequence[Record],
        run: RunSettings,
    ) -> TrainingResult:
        """Train, or return what came of the same training before."""

        def anew() -> TrainingResult:
            return local_update(base, rule, received, number, organization, records, run)

        if number > 1:
            return anew()
        key = _hashed(
            _known_by(base),
            hash_arrays(received),
            organization,
            rule.plan(number, run.rank_of(organization)),
            training_settings(run, number),
            (run.seed, run.alpha, run.rank),
            list(records),
        )
        if key not in self.trainings:
            self.trainings[key] = anew()
        return self.trainings[key]

    def evaluated(
        self,
        base: BaseModel,
        rows: Sequence[Record],
        adapter: LoraAdapter | None,
        *,
        max_tokens: int,
    ) -> Evaluation:
        """Evaluate, or return what came of the same evaluation before.

        Raises
        ------
        EvaluationError
            As :func:`llm.evaluation.evaluate` does; that is not kept.
        """
        key = _hashed(
            _known_by(base),
            (hash_arrays(adapter.arrays), adapter.alpha) if adapter else None,
            max_tokens,
            list(rows),
        )
        if key not in self.evaluations:
            self.evaluations[key] = evaluate(base, rows, adapter, max_tokens=max_tokens)
        return self.evaluations[key]


def _known_by(base: BaseModel) -> tuple[Any, ...]:
    return base.fingerprint, base.quantization, base.compute_dtype


def _hashed(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
