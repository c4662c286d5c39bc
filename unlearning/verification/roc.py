"""Area under the ROC curve: how well a score tells members from non-members, and its error."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from unlearning.verification.token_statistics import FloatArray, VerificationError


@dataclass(frozen=True)
class AucEstimate:
    """An area under the ROC curve.

    Parameters
    ----------
    value : float
        Probability that a member scores higher than a non-member, ties by half.
    standard_error : float or None
        DeLong's; None with fewer than two members or non-members. It is 0 where the scores
        separate the two perfectly: no interval can be made of it there.
    """

    value: float
    standard_error: float | None


def auc(members: FloatArray, non_members: FloatArray) -> AucEstimate:
    """Return the area under the ROC curve with its standard error.

    With ``psi(x, y)`` 1, 1/2 or 0 as member x scores above, as high as, or below non-member y, the
    area is the mean of psi over all m n pairs. DeLong, DeLong and Clarke-Pearson (1988, Biometrics
    44:837): the variance is ``S10 / m + S01 / n``, S10 the sample variance over members of
    ``V10(x) = mean_y psi(x, y)``, S01 that over non-members of ``V01(y) = mean_x psi(x, y)``. Both
    come from midranks without forming the pairs (Sun and Xu 2014, IEEE Signal Processing Letters
    21:1389).

    Parameters
    ----------
    members, non_members : ndarray of float64, shapes (m,) and (n,)
        Scores, finite; higher should mean member.

    Raises
    ------
    VerificationError
        If there is no member or no non-member, or a score is not finite.
    """
    m, n = len(members), len(non_members)
    if not m or not n:
        raise VerificationError(f"{m} members and {n} non-members: expected some of both")
    scores = np.concatenate([members, non_members])
    if not np.isfinite(scores).all():
        raise VerificationError("a membership score is not finite: expected numbers")
    value = float(roc_auc_score(np.repeat([1, 0], [m, n]), scores))
    if min(m, n) < 2:
        return AucEstimate(value, None)
    ranks = rankdata(scores)
    v10 = (ranks[:m] - rankdata(members)) / n
    v01 = 1 - (ranks[m:] - rankdata(non_members)) / m
    variance = v10.var(ddof=1) / m + v01.var(ddof=1) / n
    return AucEstimate(value, math.sqrt(variance))


def weighted_auc(
    members: FloatArray,
    non_members: FloatArray,
    member_weights: FloatArray,
    non_member_weights: FloatArray,
) -> FloatArray:
    """Return the area under the ROC curve for many weightings of the same scores.

    ``sum_x sum_y w_x w_y psi(x, y) / (sum w_x sum w_y)``: with a resample's counts for weights it
    is the resample's own area, and the scores are sorted once for all of them.

    Parameters
    ----------
    members, non_members : ndarray of float64, shapes (m,) and (n,)
        Scores.
    member_weights, non_member_weights : ndarray of float64, shapes (draws, m) and (draws, n)
        Weights, each row with a positive sum.

    Returns
    -------
    ndarray of float64, shape (draws,)
    """
    order = np.argsort(non_members)
    ranked = non_members[order]
    below = np.zeros((len(non_member_weights), len(ranked) + 1))
    np.cumsum(non_member_weights[:, order], axis=1, out=below[:, 1:])
    beaten = 0.5 * (
        below[:, np.searchsorted(ranked, members, side="left")]
        + below[:, np.searchsorted(ranked, members, side="right")]
    )
    areas: FloatArray = (member_weights * beaten).sum(1) / (member_weights.sum(1) * below[:, -1])
    return areas
