"""Membership inference: telling the forget set from records that no model ever saw.

Each attack gives a record a score, higher where the record looks more like a member. The forget
set are the members, the hold-out set the non-members. The target of an area is not 0.5 but that of
the model retrained without the forget set: the two sets may differ by themselves.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from unlearning.verification.evidence import Evidence, RecordEvidence
from unlearning.verification.metric import MetricResult, MissingEvidenceError, metric
from unlearning.verification.roc import auc
from unlearning.verification.token_statistics import FloatArray, TokenStatistics

AttackScore = Callable[[RecordEvidence], float]

#: Attacks by name; each is a metric as well, ``membership/`` before its name.
ATTACKS: Final[dict[str, AttackScore]] = {}

#: Share of a completion's tokens that Min-K% looks at, percent.
MIN_K_PERCENT: Final = 20

#: Smallest variance Min-K%++ divides by the root of, as in open-unlearning: where the model is
#: certain there is no spread to measure by.
_LEAST_VARIANCE: Final = 1e-6


def attack(name: str) -> Callable[[AttackScore], AttackScore]:
    """Register a score as an attack, and its area under the ROC curve as a metric."""

    def register(score: AttackScore) -> AttackScore:
        ATTACKS[name] = score

        @metric(f"membership/{name}")
        def area(evidence: Evidence) -> MetricResult:
            return membership_auc(evidence, score)

        return score

    return register


def membership_auc(evidence: Evidence, score: AttackScore) -> MetricResult:
    """Return the area under the ROC curve of a score, forget set against hold-out set.

    Parameters
    ----------
    evidence : Evidence
        With both sets.
    score : callable
        From a record's evidence to a number, higher for members.

    Returns
    -------
    MetricResult
        With DeLong's standard error; by record, the scores of both sets.

    Raises
    ------
    MissingEvidenceError
        If one of the sets is empty, or the score needs what is not there.
    """
    members, non_members = membership_scores(evidence, score)
    estimate = auc(_values(members), _values(non_members))
    return MetricResult(
        estimate.value,
        len(members) + len(non_members),
        estimate.standard_error,
        members | non_members,
    )


def membership_scores(
    evidence: Evidence, score: AttackScore
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the scores of the forget set and of the hold-out set, by record id.

    Raises
    ------
    MissingEvidenceError
        If one of the sets is empty, or the score needs what is not there.
    """
    if not (evidence.forget and evidence.hold_out):
        raise MissingEvidenceError("membership needs a forget set and a hold-out set")
    return (
        {name: score(row) for name, row in evidence.forget.items()},
        {name: score(row) for name, row in evidence.hold_out.items()},
    )


def _values(scores: dict[str, float]) -> FloatArray:
    return np.fromiter(scores.values(), dtype=np.float64)


@attack("loss")
def loss_score(row: RecordEvidence) -> float:
    """Mean log-probability a token (Yeom et al. 2018, arXiv 1709.01604), nats."""
    return -row.statistics.loss_per_token


@attack("zlib")
def zlib_score(row: RecordEvidence) -> float:
    """Log-probability over compressed size (Carlini et al. 2021, arXiv 2012.07805), nats a byte.

    Both of the completion alone: the loss counts no token of the prompt.
    """
    return -row.statistics.loss / row.compressed_bytes


@attack("min_k")
def min_k_score(row: RecordEvidence) -> float:
    """Min-K% with k = 20 (Shi et al. 2023, arXiv 2310.16789), nats."""
    return min_k(row.statistics, MIN_K_PERCENT)


def min_k(statistics: TokenStatistics, percent: int) -> float:
    """Return the mean log-probability of the least probable tokens, nats.

    Parameters
    ----------
    statistics : TokenStatistics
        Of one record.
    percent : int
        How many of its tokens, 1 to 100; rounded down, at least one.
    """
    return _lowest_mean(statistics.log_probabilities, percent)


@attack("min_k_plus_plus")
def min_k_plus_plus_score(row: RecordEvidence) -> float:
    """Min-K%++ with k = 20 (Zhang et al. 2024, arXiv 2404.02936).

    As Min-K%, of ``(log p(token) - mean) / deviation``: how the token stands among those that the
    model itself would draw at its place.
    """
    statistics = row.statistics
    deviations = np.sqrt(np.maximum(np.square(statistics.deviations), _LEAST_VARIANCE))
    return _lowest_mean(
        (statistics.log_probabilities - statistics.means) / deviations, MIN_K_PERCENT
    )


@attack("reference")
def reference_score(row: RecordEvidence) -> float:
    """Mean loss a token under the untouched base, minus that under the model, nats.

    Carlini et al. (2021, arXiv 2012.07805) compare perplexities with those of another model; this
    is the logarithm of their ratio.

    Raises
    ------
    MissingEvidenceError
        If the record was not read under the base.
    """
    if row.reference is None:
        raise MissingEvidenceError("the reference attack needs the records as the base reads them")
    return row.reference.loss_per_token - row.statistics.loss_per_token


def _lowest_mean(values: FloatArray, percent: int) -> float:
    if not 1 <= percent <= 100:
        raise ValueError(f"{percent} percent of the tokens: expected 1 to 100")
    count = max(1, len(values) * percent // 100)
    return float(np.partition(values, count - 1)[:count].mean())
