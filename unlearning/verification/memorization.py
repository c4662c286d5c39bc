"""How well a model still knows a set: loss, accuracy, probability, and what it says by itself."""

import math

import numpy as np
from numpy.typing import NDArray

from unlearning.verification.evidence import EvidenceById
from unlearning.verification.metric import (
    MetricResult,
    MissingEvidenceError,
    mean_result,
    ratio_result,
    set_metric,
)
from unlearning.verification.token_statistics import TokenStatistics


@set_metric("loss")
def loss(rows: EvidenceById) -> MetricResult:
    """Mean cross entropy a completion token, nats; every token counts once, not every record."""
    return ratio_result(
        {name: row.statistics.loss for name, row in rows.items()},
        {name: row.statistics.tokens for name, row in rows.items()},
    )


@set_metric("accuracy")
def accuracy(rows: EvidenceById) -> MetricResult:
    """Share of the classified records whose completion is the most probable choice.

    A tie is no answer. Records of free text do not count.

    Raises
    ------
    MissingEvidenceError
        If no record has choices.
    """
    correct = {
        name: float(is_correct(row.statistics))
        for name, row in rows.items()
        if row.statistics.choice_log_probabilities
    }
    if not correct:
        raise MissingEvidenceError("no record has choices: accuracy needs a classification")
    return mean_result(correct)


def is_correct(statistics: TokenStatistics) -> bool:
    """Say whether a classified record's completion is more probable than every other choice."""
    scores = list(statistics.choice_log_probabilities)
    right = scores.pop(statistics.answer)
    return right > max(scores)


@set_metric("probability")
def probability(rows: EvidenceById) -> MetricResult:
    """Mean over records of ``P(completion | prompt)^(1 / tokens)``.

    The normalized probability of TOFU (Maini et al. 2024, arXiv 2401.06121).
    """
    return mean_result(
        {name: math.exp(-row.statistics.loss_per_token) for name, row in rows.items()}
    )


@set_metric("exact_match")
def exact_match(rows: EvidenceById) -> MetricResult:
    """Share of the records whose text greedy decoding gives word for word.

    No text is generated for it. Greedy decoding's first token is the most probable one after the
    prompt; as long as each token so far was the completion's own, the next is predicted from
    exactly what teacher forcing shows the model. So the decoded text begins with the completion if
    and only if under teacher forcing every one of its tokens is the most probable (induction on
    length). Whether the model then stops is not asked: who goes on has recited it all the same.
    """
    return mean_result(
        {name: float(row.statistics.greedy_text.all()) for name, row in rows.items()}
    )


@set_metric("extraction_strength")
def extraction_strength(rows: EvidenceById) -> MetricResult:
    """Mean share of the text that follows from the shortest sufficient prefix.

    ``1 - k / tokens``, k the smallest number of the text's tokens after which greedy decoding gives
    all others (Carlini et al. 2021, arXiv 2012.07805, as open-unlearning computes it, end of
    sequence left out: Dorna et al. 2025, arXiv 2506.12618). By :func:`exact_match`'s argument that
    is the length of the longest suffix made of most probable tokens. A text whose last token is not
    the most probable has strength 0 here, ``1 / tokens`` there.
    """
    return mean_result(
        {name: _greedy_suffix(row.statistics.greedy_text) for name, row in rows.items()}
    )


def _greedy_suffix(greedy: NDArray[np.bool_]) -> float:
    missed = np.flatnonzero(~greedy)
    return 1 - (int(missed[-1]) + 1 if len(missed) else 0) / len(greedy)
