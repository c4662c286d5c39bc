"""Whether unlearned models are as good as retrained ones, from what stands in the file.

The respects, margins and intervals are those of :mod:`unlearning.verification`; only that they are
worked out of a record's columns and not of a model's answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from scipy.stats import ks_2samp

from unlearning.verification import (
    ATTACKS,
    Judgement,
    Margins,
    Pair,
    PairedMeans,
    PairedScores,
    Range,
    VerificationError,
    auc,
    judge,
)
from unlearning.verification.equivalence import DRAWS
from unlearning.verification.token_statistics import FloatArray

#: Of the resamples; the tables are a function of the file.
_SEED: Final = 0
#: The least that a claim rests on.
LEAST_SEEDS: Final = 3
LEAST_ROWS: Final = 800
#: Respects without which nothing is claimed.
_NEEDED: Final = ("forget/loss", "membership/loss", "retain/utility", "others/utility")

_ATTACKS: Final = tuple(f"membership/{name}" for name in ATTACKS)

Columns = Mapping[str, Sequence[Any]]
Records = Mapping[str, Columns]
_PairOf = Callable[[Records, Records], Pair]


def judged(
    unlearned: Sequence[Records],
    retrained: Sequence[Records],
    before: Sequence[Records],
    *,
    draws: int = DRAWS,
) -> dict[str, Judgement]:
    """Judge unlearned models in every respect for which the columns suffice.

    Parameters
    ----------
    unlearned, retrained, before : sequence of mapping of str to columns
        Records by set; one element a seed, organization and set, the same in all three.
    draws : int, optional
        Resamples of each interval.

    Returns
    -------
    dict of str to Judgement
        As :func:`unlearning.verification.as_good_as_retrained`, and ``others/utility``: accuracy
        on the others' test rows, as a share of the retrained models'; of free text the retrained
        models' loss as a share of the unlearned ones'.

    Raises
    ------
    VerificationError
        If models of one subject were asked about different records.
    """
    for models in zip(unlearned, retrained, before, strict=True):
        _check_alike(models)
    generator = np.random.default_rng(_SEED)
    found = {}
    for name, (pair, allowed, controlled) in _respects(Margins()).items():
        try:
            pairs = [pair(*two) for two in zip(unlearned, retrained, strict=True)]
            control = [pair(*two) for two in zip(before, retrained, strict=True)]
        except (KeyError, VerificationError):
            # No such column; or a share of nothing, such as of no right answer at all.
            continue
        found[name] = judge(
            pairs, allowed, generator, control=control if controlled else None, draws=draws
        )
    return found


def _respects(margins: Margins) -> dict[str, tuple[_PairOf, Range, bool]]:
    auc_range = Range(-margins.attack_auc, margins.attack_auc)
    utility = Range(margins.utility, float("inf"))
    return {
        "forget/loss": (_losses, Range(-margins.forget_loss, margins.forget_loss), True),
        "forget/accuracy": (_accuracies, Range(-margins.accuracy, margins.accuracy), True),
        **{name: (_areas(name), auc_range, True) for name in _ATTACKS},
        "retain/utility": (_kept, utility, False),
        "others/utility": (_of_others, utility, False),
    }


def _losses(one: Records, other: Records) -> Pair:
    return PairedMeans(
        _values(one["forget"]["loss"]), _values(other["forget"]["loss"]), "relative difference"
    )


def _accuracies(one: Records, other: Records) -> Pair:
    return PairedMeans(_values(one["forget"]["correct"]), _values(other["forget"]["correct"]))


def _kept(one: Records, other: Records) -> Pair:
    ours, theirs = one["retain"], other["retain"]
    if "correct" in ours:
        return PairedMeans(_values(ours["correct"]), _values(theirs["correct"]), "ratio")
    return PairedMeans(probabilities(ours), probabilities(theirs), "ratio")


def _of_others(one: Records, other: Records) -> Pair:
    ours, theirs = one["others"], other["others"]
    if "correct" in ours:
        return PairedMeans(_values(ours["correct"]), _values(theirs["correct"]), "ratio")
    # The other way round: of a loss less is more.
    return PairedMeans(_values(theirs["loss"]), _values(ours["loss"]), "ratio")


def _areas(column: str) -> _PairOf:
    def areas(one: Records, other: Records) -> Pair:
        return PairedScores(
            unlearned_members=_values(one["forget"][column]),
            unlearned_non_members=_values(one["hold_out"][column]),
            retrained_members=_values(other["forget"][column]),
            retrained_non_members=_values(other["hold_out"][column]),
        )

    return areas


def probabilities(columns: Columns) -> FloatArray:
    """Return every record's normalized probability, ``P(completion)^(1 / tokens)``."""
    likelihoods: FloatArray = np.exp(-_values(columns["loss"]) / _values(columns["tokens"]))
    return likelihoods


def conclusion(judgements: Mapping[str, Judgement], seeds: int, rows: int) -> str:
    """Say what follows of all respects together, and no more than the numbers bear.

    Parameters
    ----------
    judgements : mapping of str to Judgement
        By respect.
    seeds : int
        Different seeds.
    rows : int
        Forget rows of all subjects together.
    """
    by_verdict: dict[str, list[str]] = {}
    for name, judgement in judgements.items():
        by_verdict.setdefault(judgement.verdict, []).append(name)
    for verdict in ("outside", "undecided", "not measurable"):
        if verdict in by_verdict:
            return f"{verdict}: {', '.join(by_verdict[verdict])}"
    lacking = [name for name in _NEEDED if name not in judgements]
    if lacking:
        return f"not defined: {', '.join(lacking)}"
    if seeds < LEAST_SEEDS or rows < LEAST_ROWS:
        return "within all margins, on too little for a claim"
    return "as good as retrained"


def priv_leak(unlearned: Records, retrained: Records) -> float | None:
    """Return PrivLeak (:func:`unlearning.verification.priv_leak`), a fraction.

    None where the retrained model tells all records apart.
    """
    ours, theirs = (
        auc(_values(one["forget"]["privleak"]), _values(one["hold_out"]["privleak"])).value
        for one in (unlearned, retrained)
    )
    return None if theirs == 1 else (theirs - ours) / (1 - theirs)


def forget_quality(unlearned: Iterable[Records], retrained: Iterable[Records]) -> float:
    """Return the p-value of a Kolmogorov-Smirnov test between models, subjects pooled.

    As :func:`unlearning.verification.forget_quality_p_value`: on the truth ratio where records
    are classified, else on the mean loss a token.
    """
    ours = np.concatenate([_quality(one["forget"]) for one in unlearned])
    theirs = np.concatenate([_quality(one["forget"]) for one in retrained])
    return float(ks_2samp(ours, theirs).pvalue)


def _quality(columns: Columns) -> FloatArray:
    if "log_truth_ratio" in columns:
        return _values(columns["log_truth_ratio"])
    quotients: FloatArray = _values(columns["loss"]) / _values(columns["tokens"])
    return quotients


def _values(column: Sequence[Any]) -> FloatArray:
    return np.asarray(column, dtype=np.float64)


def _check_alike(models: Sequence[Records]) -> None:
    first, *others = models
    for name, columns in first.items():
        if any(list(one[name]["id"]) != list(columns["id"]) for one in others):
            raise VerificationError(
                f"the {name} sets of one subject's models differ: measure them again"
            )
