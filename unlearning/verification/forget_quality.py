"""Forget quality: whether a test can tell the unlearned model from a retrained one."""

import math

import numpy as np
from scipy.special import logsumexp
from scipy.stats import ks_2samp

from unlearning.verification.evidence import EvidenceById
from unlearning.verification.metric import MetricResult, MissingEvidenceError
from unlearning.verification.token_statistics import TokenStatistics


def forget_quality_p_value(unlearned: EvidenceById, retrained: EvidenceById) -> MetricResult:
    """Return the p-value of a two-sided Kolmogorov-Smirnov test between two models.

    TOFU (Maini et al. 2024, arXiv 2401.06121), on the truth ratio where every record has choices,
    else on the mean loss a token. A small value says that the models differ. A large one is no
    proof that they are alike: few records make every value large. For that see
    :mod:`unlearning.verification.equivalence`.

    Parameters
    ----------
    unlearned, retrained : mapping of str to RecordEvidence
        The forget set under both models.

    Returns
    -------
    MetricResult
        ``n`` counts the unlearned model's records; by record, its statistic.

    Raises
    ------
    MissingEvidenceError
        If there is no record.
    """
    if not (unlearned and retrained):
        raise MissingEvidenceError("the forget set is empty: expected at least one record")
    rows = (*unlearned.values(), *retrained.values())
    classified = all(row.statistics.choice_log_probabilities for row in rows)
    statistic = log_truth_ratio if classified else _loss_per_token
    ours = {name: statistic(row.statistics) for name, row in unlearned.items()}
    theirs = {name: statistic(row.statistics) for name, row in retrained.items()}
    test = ks_2samp(np.fromiter(ours.values(), float), np.fromiter(theirs.values(), float))
    return MetricResult(float(test.pvalue), len(ours), None, ours)


def log_truth_ratio(statistics: TokenStatistics) -> float:
    """Return the logarithm of TOFU's truth ratio, of a record with choices.

    The ratio is ``mean over wrong w of P(w)^(1/|w|), over P(right)^(1/|right|)``, |w| in tokens,
    with the record's completion in place of TOFU's paraphrase of it. Its logarithm never overflows,
    and the test looks at order alone.
    """
    normalized = [
        log_probability / tokens
        for log_probability, tokens in zip(
            statistics.choice_log_probabilities, statistics.choice_tokens, strict=True
        )
    ]
    right = normalized.pop(statistics.answer)
    return float(logsumexp(normalized)) - math.log(len(normalized)) - right


def _loss_per_token(statistics: TokenStatistics) -> float:
    return statistics.loss_per_token
