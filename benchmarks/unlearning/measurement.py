"""What a model is asked, and its answers as they stand in the file: by metric and by record."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.unlearning.base_readings import base_readings
from benchmarks.unlearning.federation import Federation
from benchmarks.unlearning.questions import Questions
from llm.adapters import LoraAdapter
from unlearning.verification import (
    ATTACKS,
    METRICS,
    Evidence,
    MetricResult,
    TokenStatistics,
    assemble_evidence,
    draw_references,
    exposure_by_repeats,
    gather_statistics,
    measure,
    measure_exposures,
)
from unlearning.verification.evidence import EvidenceById
from unlearning.verification.forget_quality import log_truth_ratio
from unlearning.verification.membership import min_k
from unlearning.verification.memorization import is_correct
from unlearning.verification.privleak import MUSE_PERCENT

#: Sets of the file; ``others`` are the test rows of organizations that did not ask.
SETS: Final = ("forget", "retain", "hold_out", "others")
#: Metrics of :data:`~unlearning.verification.METRICS` that are taken of each set.
_OF_A_SET: Final = ("loss", "accuracy", "probability", "exact_match", "extraction_strength")
#: Figures a value keeps; the rest is rounding of the model's own arithmetic.
_FIGURES: Final = 7


def measured(
    federation: Federation, adapter: LoraAdapter, questions: Questions, folder: Path
) -> dict[str, Any]:
    """Ask a model.

    Parameters
    ----------
    federation : Federation
        Whose.
    adapter : LoraAdapter
        The model.
    questions : Questions
        About what.
    folder : Path
        Where the base's readings are kept.

    Returns
    -------
    dict
        ``metrics`` with value, n and standard error; ``records`` by set and column; ``canaries``
        with the exposures by id; ``measure_seconds``.
    """
    started = time.perf_counter()
    limit = federation.setting.run.max_tokens
    asked = (*questions.forget, *questions.retain, *questions.hold_out, *questions.others)
    statistics = gather_statistics(federation.base, asked, adapter, max_tokens=limit)
    reference = base_readings(
        federation.base, (*questions.forget, *questions.hold_out), folder, max_tokens=limit
    )
    found = _of_evidence(*_evidence(questions, statistics, reference))
    if questions.canaries:
        found["canaries"] = _exposures(federation, adapter, questions)
    return {**found, "measure_seconds": round(time.perf_counter() - started, 2)}


def _evidence(
    questions: Questions,
    statistics: Mapping[str, TokenStatistics],
    reference: Mapping[str, TokenStatistics],
) -> tuple[Evidence, Evidence]:
    """Return the evidence of those who ask, and of the others in the place of the retain set."""
    forget = questions.forget
    return (
        assemble_evidence(
            statistics,
            forget=forget,
            retain=questions.retain,
            hold_out=questions.hold_out,
            reference=reference,
        ),
        assemble_evidence(statistics, forget=forget, retain=questions.others),
    )


def _of_evidence(asking: Evidence, others: Evidence) -> dict[str, Any]:
    metrics = {name: _aggregate(result) for name, result in measure(asking).items()}
    if others.retain:
        available = measure(others)
        metrics |= {
            f"others/{name}": _aggregate(available[f"retain/{name}"])
            for name in _OF_A_SET
            if f"retain/{name}" in available
        }
    rows = {**{name: asking.of(name) for name in ("forget", "retain", "hold_out")}}
    return {
        "metrics": metrics,
        "records": {
            name: columns(of_set, attacked=name in ("forget", "hold_out"))
            for name, of_set in (*rows.items(), ("others", others.retain))
            if of_set
        },
    }


def _aggregate(result: MetricResult) -> dict[str, Any]:
    error = result.standard_error
    return {
        "value": _rounded(result.value),
        "n": result.n,
        "standard_error": None if error is None else _rounded(error),
    }


def columns(rows: EvidenceById, *, attacked: bool) -> dict[str, list[Any]]:
    """Lay out what the tables need of each record, column by column.

    Parameters
    ----------
    rows : mapping of str to RecordEvidence
        A set's.
    attacked : bool
        Whether attacks compare the set with another.

    Returns
    -------
    dict of str to list
        ``id``; ``loss``, summed, nats, and ``tokens`` of the completion; ``exact_match``,
        ``extraction_strength``; of classified records ``correct`` and ``log_truth_ratio``; the
        score of every attack as ``membership/<attack>``, and Min-K% at PrivLeak's share as
        ``privleak``.
    """
    statistics = {name: row.statistics for name, row in rows.items()}
    found: dict[str, list[Any]] = {
        "id": list(rows),
        "loss": [_rounded(one.loss) for one in statistics.values()],
        "tokens": [one.tokens for one in statistics.values()],
    }
    evidence = Evidence(forget=rows)
    for name in ("exact_match", "extraction_strength"):
        by_record = METRICS[f"forget/{name}"](evidence).by_record
        found[name] = [_rounded(by_record[record]) for record in rows]
    if all(one.choice_log_probabilities for one in statistics.values()):
        found["correct"] = [int(is_correct(one)) for one in statistics.values()]
        found["log_truth_ratio"] = [_rounded(log_truth_ratio(one)) for one in statistics.values()]
    if attacked:
        for name, score in ATTACKS.items():
            found[f"membership/{name}"] = [_rounded(score(row)) for row in rows.values()]
        found["privleak"] = [_rounded(min_k(one, MUSE_PERCENT)) for one in statistics.values()]
    return found


def _exposures(
    federation: Federation, adapter: LoraAdapter, questions: Questions
) -> dict[str, Any]:
    setting = federation.setting
    exposures = measure_exposures(
        federation.base,
        adapter,
        questions.canaries,
        draw_references(setting.references, seed=federation.seed),
        max_tokens=setting.run.max_tokens,
    )
    by_repeats = exposure_by_repeats(questions.canaries, exposures)
    return {
        "references": exposures.references,
        "exposures": {
            str(repeats): {name: _rounded(value) for name, value in result.by_record.items()}
            for repeats, result in by_repeats.items()
        },
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_FIGURES}g}")
