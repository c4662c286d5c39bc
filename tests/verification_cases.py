"""Evidence made by hand: statistics of few tokens, as no model gave them."""

from collections.abc import Sequence

import numpy as np

from unlearning.verification.evidence import RecordEvidence
from unlearning.verification.token_statistics import TokenStatistics


def statistics(
    log_probabilities: Sequence[float],
    *,
    greedy: Sequence[bool] | None = None,
    means: Sequence[float] | None = None,
    deviations: Sequence[float] | None = None,
    choices: Sequence[tuple[float, int]] = (),
    answer: int = -1,
    ends: bool = False,
) -> TokenStatistics:
    """Statistics of one record; a choice is its summed log-probability and its tokens."""
    tokens = len(log_probabilities)
    return TokenStatistics(
        np.array(log_probabilities, dtype=np.float64),
        np.array(means if means is not None else [-1.0] * tokens, dtype=np.float64),
        np.array(deviations if deviations is not None else [1.0] * tokens, dtype=np.float64),
        np.array(greedy if greedy is not None else [False] * tokens),
        tuple(log_probability for log_probability, _ in choices),
        tuple(length for _, length in choices),
        answer,
        ends,
    )


def record_evidence(
    log_probabilities: Sequence[float],
    *,
    compressed_bytes: int = 10,
    reference: Sequence[float] | None = None,
) -> RecordEvidence:
    """Evidence of one record, with its log-probabilities under the base where given."""
    return RecordEvidence(
        statistics(log_probabilities),
        compressed_bytes,
        None if reference is None else statistics(reference),
    )


def rows(prefix: str, losses: Sequence[float]) -> dict[str, RecordEvidence]:
    """Records of two tokens with these losses a token."""
    return {
        f"{prefix}-{index}": record_evidence([-loss, -loss]) for index, loss in enumerate(losses)
    }
