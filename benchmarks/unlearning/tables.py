"""What was measured, and how it compares with the retrained models, as tables."""

from collections.abc import Sequence
from statistics import fmean
from typing import Final

from benchmarks.sheets import MISSING, Sheet
from benchmarks.unlearning.groups import Group, Subject, mean_and_error
from benchmarks.unlearning.judgements import (
    LEAST_ROWS,
    LEAST_SEEDS,
    conclusion,
    forget_quality,
    judged,
    priv_leak,
)
from unlearning.verification import ATTACKS, CHANCE_EXPOSURE, Interval, Judgement
from unlearning.verification.equivalence import DRAWS

_METRICS: Final = (
    "forget/loss",
    "hold_out/loss",
    "retain/loss",
    "others/loss",
    "forget/accuracy",
    "others/accuracy",
    "forget/probability",
    "forget/exact_match",
    "forget/extraction_strength",
    *(f"membership/{attack}" for attack in ATTACKS),
)
_RESPECTS: Final = (
    "forget/loss",
    "forget/accuracy",
    *(f"membership/{attack}" for attack in ATTACKS),
    "retain/utility",
    "others/utility",
)
_REPEATS: Final = ("1", "4", "16")


def measured_sheet(group: Group) -> Sheet:
    """Lay out the metrics of every kind of model, means over its models."""
    present = [
        name
        for name in _METRICS
        if any(name in c.get("metrics", {}) for k in group.kinds for c in group.cells(k))
    ]
    rows = []
    for kind in group.kinds:
        cells = [cell for cell in group.cells(kind) if "metrics" in cell]
        if kind == "exact":
            continue
        if not cells:
            rows.append([kind, "0", *[MISSING] * len(present)])
            continue
        values = [
            mean_and_error([cell["metrics"][name]["value"] for cell in cells]) for name in present
        ]
        rows.append([kind, str(len(cells)), *values])
    return Sheet(
        f"Measured: {group.title}",
        ["model", "n", *present],
        rows,
        "n: models. Means over models ± their standard error (models of one seed share their "
        "start). Losses in nats a token; membership: area under the ROC curve.",
    )


def judgement_sheet(group: Group, *, draws: int = DRAWS) -> Sheet:
    """Judge every kind of model against the retrained ones; first the positive control."""
    rows: list[list[str]] = []
    for kind in group.kinds:
        if kind in ("trained", "retrained", "exact", "isolated-all"):
            continue
        before = "isolated-all" if kind == "isolated" else "trained"
        subjects = group.comparable(kind, "retrained", before)
        if not subjects:
            rows.append([kind, "0", *[MISSING] * (len(_RESPECTS) + 1)])
            continue
        judgements = judged(
            group.records(kind, subjects),
            group.records("retrained", subjects),
            group.records(before, subjects),
            draws=draws,
        )
        count, seeds, forget_rows = _numbers(group, subjects)
        texts = [_judgement(judgements.get(name)) for name in _RESPECTS]
        rows.append([kind, count, conclusion(judgements, seeds, forget_rows), *texts])
        rows.append([f"{before}, as control of {kind}", count, "", *_controls(judgements)])
    note = (
        "Effect against the retrained model of the same seed and set, 95 % interval over models "
        f"and records, verdict. A claim takes at least {LEAST_SEEDS} seeds and {LEAST_ROWS} "
        "forget rows. A respect in which the control lies within the margin is not measurable."
    )
    if group.case == "withdrawal":
        note += " Isolated adapters forget exactly: their row says what isolation does otherwise."
    return Sheet(
        f"As good as retrained? {group.title}",
        ["model", "models / seeds / forget rows", "conclusion", *_RESPECTS],
        rows,
        note,
    )


def _numbers(group: Group, subjects: Sequence[Subject]) -> tuple[str, int, int]:
    seeds = len({seed for seed, _, _ in subjects})
    rows = sum(len(one["forget"]["id"]) for one in group.records("retrained", subjects))
    return f"{len(subjects)} / {seeds} / {rows}", seeds, rows


def _judgement(judgement: Judgement | None) -> str:
    return "" if judgement is None else f"{judgement.verdict} {_interval(judgement.interval)}"


def _controls(judgements: dict[str, Judgement]) -> list[str]:
    found = [judgements.get(name) for name in _RESPECTS]
    return ["" if j is None or j.control is None else _interval(j.control) for j in found]


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def leak_sheet(group: Group) -> Sheet:
    """Lay out PrivLeak, forget quality, and the canaries' exposure by repeats."""
    rows = []
    for kind in group.kinds:
        if kind == "exact":
            continue
        if not group.cells(kind):
            rows.append([kind, "0", *[MISSING] * (2 + len(_REPEATS))])
            continue
        subjects = group.comparable(kind, "retrained")
        against = [MISSING, MISSING]
        if subjects:
            pairs = (group.records(kind, subjects), group.records("retrained", subjects))
            leaks = [priv_leak(*two) for two in zip(*pairs, strict=True)]
            known = [leak for leak in leaks if leak is not None]
            against = [
                mean_and_error(known) if known else "not defined",
                f"{forget_quality(*pairs):.3g}",
            ]
        exposures = [_exposure(group, kind, repeats) for repeats in _REPEATS]
        rows.append([kind, str(len(subjects)), *against, *exposures])
    return Sheet(
        f"Leaks: {group.title}",
        [
            "model",
            "n",
            "PrivLeak",
            "Kolmogorov-Smirnov p",
            *(f"exposure, {repeats} times" for repeats in _REPEATS),
        ],
        rows,
        "n: models with their retrained one. PrivLeak as a fraction, 0 is the retrained model's; "
        "p of the forget rows of all of them together, small where they differ. Exposure in bits, "
        f"mean over (n) canaries; chance is {CHANCE_EXPOSURE:.2f}.",
    )


def _exposure(group: Group, kind: str, repeats: str) -> str:
    values = [
        value
        for cell in group.cells(kind)
        for value in cell.get("canaries", {}).get("exposures", {}).get(repeats, {}).values()
    ]
    return f"{fmean(values):.2f} ({len(values)})" if values else ""


def missing_sheet(group: Group) -> Sheet:
    """Name what was not measured, of those of whom anything was."""
    lacking = [(kind, group.lacking(kind)) for kind in group.kinds]
    rows = [[kind, subjects] for kind, subjects in lacking if subjects]
    return Sheet(f"Missing: {group.title}", ["model", "seed/organization/set"], rows)
