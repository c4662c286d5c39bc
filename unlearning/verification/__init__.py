"""Verification: what a model still knows, and whether it is as good as one that never saw the data.

Start at :func:`gather_evidence`, which reads the forget, retain and hold-out sets under a model,
and :func:`measure`, which computes all metrics of it. :func:`as_good_as_retrained` judges unlearned
models against retrained ones. Attacks on the model itself are :func:`relearning_attack`,
:func:`quantized_evidence`, :func:`measure_exposures` of canaries, and :func:`memory_by_round`.
"""

from unlearning.verification.against_retrained import as_good_as_retrained
from unlearning.verification.canaries import (
    CHANCE_EXPOSURE,
    Canary,
    Exposures,
    draw_canaries,
    draw_references,
    exposure_by_repeats,
    measure_exposures,
)
from unlearning.verification.equivalence import (
    Interval,
    Judgement,
    Margins,
    Range,
    judge,
    paired_interval,
)
from unlearning.verification.evidence import (
    Evidence,
    RecordEvidence,
    assemble_evidence,
    gather_evidence,
)
from unlearning.verification.forget_quality import forget_quality_p_value
from unlearning.verification.membership import ATTACKS
from unlearning.verification.metric import METRICS, MetricResult, MissingEvidenceError, measure
from unlearning.verification.paired import Pair, PairedMeans, PairedScores
from unlearning.verification.privleak import priv_leak
from unlearning.verification.quantization_attack import quantized_evidence
from unlearning.verification.relearning import RelearningCurves, relearning_attack
from unlearning.verification.resurfacing import RoundMemory, memory_by_round
from unlearning.verification.roc import AucEstimate, auc
from unlearning.verification.token_statistics import (
    TokenStatistics,
    VerificationError,
    gather_statistics,
)

__all__ = [
    "ATTACKS",
    "CHANCE_EXPOSURE",
    "METRICS",
    "AucEstimate",
    "Canary",
    "Evidence",
    "Exposures",
    "Interval",
    "Judgement",
    "Margins",
    "MetricResult",
    "MissingEvidenceError",
    "Pair",
    "PairedMeans",
    "PairedScores",
    "Range",
    "RecordEvidence",
    "RelearningCurves",
    "RoundMemory",
    "TokenStatistics",
    "VerificationError",
    "as_good_as_retrained",
    "assemble_evidence",
    "auc",
    "draw_canaries",
    "draw_references",
    "exposure_by_repeats",
    "forget_quality_p_value",
    "gather_evidence",
    "gather_statistics",
    "judge",
    "measure",
    "measure_exposures",
    "memory_by_round",
    "paired_interval",
    "priv_leak",
    "quantized_evidence",
    "relearning_attack",
]
