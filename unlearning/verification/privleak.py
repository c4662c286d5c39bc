"""PrivLeak: how far an unlearned model's membership leak is from a retrained one's."""

from typing import Final

from unlearning.verification.evidence import Evidence
from unlearning.verification.membership import membership_auc, min_k
from unlearning.verification.metric import MetricResult
from unlearning.verification.token_statistics import VerificationError

#: Share of the tokens that Min-K% looks at in MUSE, percent.
MUSE_PERCENT: Final = 40


def priv_leak(
    unlearned: Evidence, retrained: Evidence, *, percent: int = MUSE_PERCENT
) -> MetricResult:
    """Return ``(AUC_unlearned - AUC_retrained) / AUC_retrained`` on Min-K%, as a fraction.

    MUSE (Shi et al. 2024, arXiv 2407.06460), which prints it in percent. Its area
    points the other way than all other areas here: it is the probability that a *hold-out* record
    looks more like a member, one minus ours. Hence 0 is the ideal, a negative value says that the
    forget set still looks familiar (under-unlearning), a positive one that it looks stranger than
    to a model that never saw it (over-unlearning).

    Parameters
    ----------
    unlearned, retrained : Evidence
        Of the same forget and hold-out records.
    percent : int, optional
        Share of the tokens, 1 to 100.

    Returns
    -------
    MetricResult
        Without standard error; by record, the unlearned model's scores.

    Raises
    ------
    MissingEvidenceError
        If a set is empty.
    VerificationError
        If the models were asked about different records, or MUSE's area of the retrained one is 0.
    """
    if (unlearned.forget.keys(), unlearned.hold_out.keys()) != (
        retrained.forget.keys(),
        retrained.hold_out.keys(),
    ):
        raise VerificationError("the models were asked about different records: expected the same")
    ours = membership_auc(unlearned, lambda row: min_k(row.statistics, percent))
    theirs = membership_auc(retrained, lambda row: min_k(row.statistics, percent))
    if theirs.value == 1:
        raise VerificationError(
            "the retrained model tells every forget record from every hold-out record: PrivLeak "
            "divides by nothing; the two sets are not alike"
        )
    value = ((1 - ours.value) - (1 - theirs.value)) / (1 - theirs.value)
    return MetricResult(value, ours.n, None, ours.by_record)
